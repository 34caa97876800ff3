import { BerthError } from '../domain/errors.ts'
import { priorities } from '../domain/priority.ts'
import { leastOutstanding } from './balance.ts'
import { type Decision, type Moment, nothing } from './decision.ts'
import { canServe, isOffloading, isServed } from './serving.ts'
import { isLive, type ModuleState, type Replica, type Waiter } from './state.ts'

/**
 * Who is served next. Each model has a line of its own: by priority, and within one priority callers take turns, so that
 * one with many requests waits behind itself and not before everybody else.
 */
export function lineUp(state: ModuleState): ReadonlyMap<string, readonly Waiter[]> {
  const lines = new Map<string, Waiter[]>()
  for (const waiter of state.waiters) {
    if (waiter.kind !== 'use') continue
    const line = lines.get(waiter.model)
    if (line) line.push(waiter)
    else lines.set(waiter.model, [waiter])
  }
  for (const [model, line] of lines) if (!isPlain(line)) lines.set(model, inTurns(state, line))
  return lines
}

/** The turn of a caller is kept under this. */
function turnKey({ model, caller }: Waiter): string {
  return `${model} ${caller}`
}

/** More callers than this are not told apart by when they were served. */
const turnsKept = 1_000

/** It gets its turn now. */
export function noteTurn({ served, turn }: ModuleState, waiter: Waiter): void {
  const key = turnKey(waiter)
  served.delete(key)
  served.set(key, turn)
  if (served.size <= turnsKept) return
  for (const longestAgo of served.keys()) {
    served.delete(longestAgo)
    return
  }
}

/**
 * When a caller was last served, as a count. One who is new comes just before whoever was served last when it came: not
 * before those who have waited since longer ago, or they would wait as long as there are new ones.
 */
function lastTurn({ served }: ModuleState, waiter: Waiter): number {
  return served.get(turnKey(waiter)) ?? waiter.turn - 1.5
}

function isPlain(line: readonly Waiter[]): boolean {
  const [first] = line
  return line.every(({ caller, priority }) => caller === first?.caller && priority === first.priority)
}

function inTurns(state: ModuleState, line: readonly Waiter[]): Waiter[] {
  return priorities.toReversed().flatMap((priority) => {
    const callers = Map.groupBy(
      line.filter((waiter) => waiter.priority === priority),
      ({ caller }) => caller,
    )
    // Who was served longest ago comes first.
    const turns = [...callers.values()].sort(([a], [b]) => (a && b ? lastTurn(state, a) - lastTurn(state, b) : 0))
    const longest = Math.max(0, ...turns.map(({ length }) => length))
    return Array.from({ length: longest }, (_, round) => turns.flatMap((own) => own[round] ?? [])).flat()
  })
}

export function grants(state: ModuleState, { random }: Moment): readonly Decision[] {
  if (state.waiters.length === 0) return nothing
  const decisions: Decision[] = state.waiters.flatMap((waiter): Decision[] => {
    if (waiter.kind !== 'load' || isOffloading(state, waiter.model)) return []
    const replica = [...state.replicas.values()].find((candidate) => canServe(candidate, waiter.model))
    return replica ? [{ do: 'grant', waiter, replica }] : []
  })
  const taken = new Map<Replica, number>()
  for (const line of lineUp(state).values()) {
    const takenOfModel = new Map<Replica, number>()
    for (const waiter of line) {
      const hasRoom = (replica: Replica) => hasRoomFor(state, replica, waiter, takenOfModel.get(replica) ?? 0)
      const outstanding = (replica: Replica) => replica.inflight + (taken.get(replica) ?? 0)
      const replica = leastOutstanding(state, { hasRoom, outstanding, turn: state.turn + decisions.length, random })
      // Whoever comes later in this line must not go before.
      if (!replica) break
      taken.set(replica, (taken.get(replica) ?? 0) + 1)
      takenOfModel.set(replica, (takenOfModel.get(replica) ?? 0) + 1)
      decisions.push({ do: 'grant', waiter, replica })
    }
  }
  return decisions
}

/** Where a request that nobody is in line before gets its lease at once, by the same rule as those who wait. */
export function replicaFor(
  state: ModuleState,
  wanted: { readonly model: string; readonly maxInflight: number },
  random: number,
): Replica | undefined {
  if (state.waiters.length > 0) return undefined
  return leastOutstanding(state, {
    hasRoom: (replica) => hasRoomFor(state, replica, wanted, 0),
    outstanding: (replica) => replica.inflight,
    turn: state.turn,
    random,
  })
}

function hasRoomFor(
  state: ModuleState,
  replica: Replica,
  { model, maxInflight }: { readonly model: string; readonly maxInflight: number },
  taken: number,
): boolean {
  if (!canServe(replica, model)) return false
  if ((replica.models.get(model)?.inflight ?? 0) + taken >= maxInflight) return false
  // A replica that drains is offloaded by its stop.
  return replica.drain !== undefined || !isOffloading(state, model)
}

/** More requests than may stand in line: the last in it go. Those that only a cold start holds back stand in no line. */
export function overflow(state: ModuleState): readonly Decision[] {
  const { limit } = state.definition.manifest.queue
  if (state.waiters.length <= limit) return nothing
  return [...lineUp(state)].flatMap(([model, line]) => {
    const room = limit + (isServed(state, model) ? 0 : (line[0]?.maxInflight ?? 0))
    return line.slice(room).map((waiter) => ({ do: 'reject', waiter, error: busy(state, waiter, limit) }) as const)
  })
}

export function positions(state: ModuleState): readonly Decision[] {
  if (state.waiters.length === 0) return nothing
  return [...lineUp(state)].flatMap(([model, line]) => {
    if (!isServed(state, model)) return []
    return line.flatMap((waiter, index): Decision[] =>
      waiter.position === index + 1 ? [] : [{ do: 'tell', waiter, position: index + 1 }],
    )
  })
}

/** Why one who has stood in line for too long is sent away, or undefined. */
export function overdue(state: ModuleState, waiter: Waiter, nowMs: number): BerthError | undefined {
  const { queuedSinceMs, model } = waiter
  if (queuedSinceMs === undefined || nowMs - queuedSinceMs < state.definition.manifest.queue.timeoutMs) return undefined
  const waited = Math.round((nowMs - queuedSinceMs) / 1000)
  const message = `Model ${model} of module ${state.id} was busy for ${waited} s; try again later, or raise its max_simul_users, its scale or queue.timeout.`
  const retryAfterSeconds = retryAfter(state, waiter, state.waiters.length)
  return new BerthError('MODULE_BUSY', message, { module: state.id, model, reason: 'timeout', retryAfterSeconds })
}

function busy(state: ModuleState, waiter: Waiter, limit: number): BerthError {
  const { model } = waiter
  const message = `Model ${model} of module ${state.id} has ${limit} requests waiting, its queue.limit; try again later.`
  const retryAfterSeconds = retryAfter(state, waiter, limit)
  return new BerthError('MODULE_BUSY', message, { module: state.id, model, reason: 'full', retryAfterSeconds })
}

const longestRetrySeconds = 600

/** Seconds until a line of this length will have been served, by how long inferences of the model take now; 1 or more. */
function retryAfter(state: ModuleState, { model, maxInflight }: Waiter, length: number): number {
  let serviceMs = 0
  let places = 0
  for (const replica of state.replicas.values()) {
    const loaded = isLive(replica) ? replica.models.get(model) : undefined
    if (!loaded) continue
    places += maxInflight
    serviceMs = Math.max(serviceMs, loaded.serviceMs)
  }
  const seconds = Math.ceil((length * serviceMs) / Math.max(1, places) / 1000)
  return Math.min(longestRetrySeconds, Math.max(1, seconds))
}
