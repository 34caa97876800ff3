import { revivals } from './back-off.ts'
import { type Decision, type Moment, nothing } from './decision.ts'
import { warmsUp } from './loading.ts'
import { needed } from './scaling.ts'
import { isFree, isHeldBack } from './serving.ts'
import { isLive, isUp, type ModuleState, modelConfiguration, type Replica, replacedBy, stays } from './state.ts'

/** How many replicas there are to be, which of them go, and which come. */

type StartDecision = Extract<Decision, { do: 'start' }>

export interface Wanted {
  readonly count: number
  readonly cause: string
}

/** Replicas that are to run now: what always runs, what somebody waits for, what the load needs. */
export function wantedReplicas(state: ModuleState): Wanted {
  const { min, max } = state.definition.manifest.scale
  if (state.wanted !== 'enabled') return { count: 0, cause: `module ${state.id} is ${state.wanted}` }
  let wanted: Wanted = { count: min, cause: `scale.min is ${min}` }
  const cause = demand(state)
  if (cause !== undefined && wanted.count < 1) wanted = { count: 1, cause }
  const load = Math.min(state.scaling.target, needed(state))
  if (load > wanted.count) wanted = { count: load, cause: `${load} replicas are needed for the load` }
  return wanted.count > max ? { count: max, cause: `scale.max is ${max}` } : wanted
}

/** Why a replica is needed now, or undefined. */
function demand(state: ModuleState): string | undefined {
  const [waiter] = state.waiters
  if (waiter) return `a request for ${waiter.model}`
  if (state.operations.some((operation) => operation.kind === 'load')) return 'a load was asked for'
  return state.restartCause
}

/** Replicas that drain, or begin to, and those that are done with it. */
export function removals(state: ModuleState, moment: Moment): readonly Decision[] {
  const decisions: Decision[] = []
  for (const replica of state.replicas.values()) {
    if (replica.state === 'failed') {
      const cause = uselessness(state, replica, moment)
      if (cause) decisions.push({ do: 'stop', replica, cause })
    } else if (isLive(replica) && replica.drain) {
      const due = moment.nowMs >= replica.drain.deadlineMs
      const done = replica.inflight === 0 && !(replica.drain.servesWaiters && couldServe(state, replica))
      if (due || done) decisions.push({ do: 'stop', replica, cause: replica.drain.cause })
    } else if (isLive(replica) && state.wanted !== 'enabled') {
      decisions.push({ do: 'drain', replica, cause: `module ${state.id} was ${state.wanted}`, servesWaiters: true })
    }
  }
  if (decisions.length > 0 || state.wanted !== 'enabled') return decisions
  for (const rule of [restarts, outdated, surplus]) {
    const next = rule(state)
    if (next.length > 0) return next
  }
  return nothing
}

/** Why a failed replica is not kept for another start, or undefined. */
function uselessness(state: ModuleState, replica: Replica, { nowMs }: Moment): string | undefined {
  if (state.wanted !== 'enabled') return `module ${state.id} was ${state.wanted}`
  if (state.definition.external) return 'its container is found again if it comes back'
  const live = [...state.replicas.values()].filter(stays).length
  if (live === 0 || nowMs < replica.failure.untilMs || isNeeded(state, replica, live)) return undefined
  return 'others serve in its place'
}

function couldServe(state: ModuleState, replica: Replica): boolean {
  return replica.state === 'ready' && state.waiters.some((waiter) => replica.models.get(waiter.model)?.stale === false)
}

/** A restart that was asked for goes from replica to replica, so that the others serve. */
function restarts(state: ModuleState): readonly Decision[] {
  const all = [...state.replicas.values()]
  const old = all.filter((replica) => stays(replica) && replica.toRestart)
  const [first] = old
  if (!first) return nothing
  const staying = all.filter(stays)
  const settling = all.some((replica) => replica.state !== 'failed' && !(stays(replica) && isUp(replica)))
  const isShort = staying.length < wantedReplicas(state).count || state.preparation.state !== 'done'
  if (staying.length > 1 && (settling || isShort)) return nothing
  return [{ do: 'drain', replica: first, cause: 'restart was asked for', servesWaiters: false }]
}

/**
 * A changed module's replicas are replaced one by one: the new one starts beside the old, loads what that has loaded, and
 * then the old one goes. Until the new environment is there, and where a new one fails, the old one goes on serving.
 */
function outdated(state: ModuleState): readonly Decision[] {
  const { definition, preparation } = state
  if (definition.external || preparation.state !== 'done') return nothing
  const staying = [...state.replicas.values()].filter(stays)
  const isOld = (replica: Replica) => replica.specHash !== definition.specHash
  const cause = 'its files or settings have changed'
  const drain = (replica: Replica): Decision[] => [{ do: 'drain', replica, cause, servesWaiters: false }]
  const current = staying.filter((replica) => !isOld(replica))
  const serving = current.filter((replica) => isUp(replica) && !warmsUp(state, replica) && !replica.operation)
  const old = staying.filter(isOld)
  // One that was to take over, and is outdated itself by now, makes room for the next first.
  const stale = old.find((replica) => isTakingOver(state, replica))
  if (stale) return drain(stale)
  for (const replica of old) {
    const isUnused = replica.models.size === 0 && replica.inflight === 0 && !replica.operation
    if (isUnused || serving.length >= Math.max(1, wantedReplicas(state).count)) return drain(replica)
    const next = [...state.replicas.values()].find((other) => replacedBy(state, other) === replica)
    if (!next) return successor(state, replica, cause)
    if (serving.includes(next)) return drain(replica)
    return nothing
  }
  return nothing
}

/** Where there is no room for both, the old one goes first. */
function successor(state: ModuleState, replica: Replica, cause: string): readonly Decision[] {
  const next = start(state, cause, { warm: [...replica.models.keys()], replaces: replica })
  const held = state.shortages.get(next.replica)
  if (!held || held.retry) return [next]
  if (held.shortage.roomIsMade || !held.shortage.holders.includes(state.id)) return nothing
  return [{ do: 'drain', replica, cause: `${cause}, and there is no room for both`, servesWaiters: false }]
}

/** The start that would replace an outdated replica, whether or not there is room for it. */
export function outdatedStarts(state: ModuleState): readonly StartDecision[] {
  if (state.wanted !== 'enabled') return []
  return outdated({ ...state, shortages: new Map() }).filter((decision) => decision.do === 'start')
}

/** More than may run, or than the load has needed for long. */
function surplus(state: ModuleState): readonly Decision[] {
  const { min, max } = state.definition.manifest.scale
  if (state.definition.external) return nothing
  const staying = [...state.replicas.values()].filter(stays)
  const replaced = new Set(staying.map((replica) => replacedBy(state, replica)))
  const counted = staying.filter((replica) => !replaced.has(replica))
  const limit = Math.min(max, Math.max(min, state.scaling.target))
  const over = counted.length - limit
  if (over <= 0) return nothing
  const cause = counted.length > max ? `scale.max is ${max}` : `${limit} replicas are enough`
  return counted
    .toSorted((a, b) => usefulness(a) - usefulness(b) || indexOf(b) - indexOf(a))
    .slice(0, over)
    .map((replica) => ({ do: 'drain', replica, cause, servesWaiters: false }))
}

/** Those that serve least go first. */
function usefulness(replica: Replica): number {
  return (isUp(replica) ? 1 : 0) + replica.models.size + replica.inflight * 1_000
}

/** One that nobody uses is stopped after the module's stop_ttl. */
export function sleeps(state: ModuleState, { nowMs }: Moment): readonly Decision[] {
  const { scale, stopTtlMs } = state.definition.manifest
  if (!maySleep(state) || !hasSpare(state)) return nothing
  for (const replica of state.replicas.values()) {
    if (!isFree(replica) || replica.inflight > 0 || nowMs - replica.lastUsedMs < stopTtlMs) continue
    const cause =
      scale.min > 0 ? `it was idle for its stop_ttl, and ${scale.min} others run` : 'it was idle for its stop_ttl'
    return [{ do: 'drain', replica, cause, servesWaiters: true, idle: true }]
  }
  return nothing
}

/** More replicas run than the load asks for: one that went now would not be started again at once. */
export function hasSpare(state: ModuleState): boolean {
  return [...state.replicas.values()].filter(stays).length > wantedReplicas(state).count
}

/** More replicas run than always have to. */
export function maySleep(state: ModuleState): boolean {
  if (state.definition.external) return false
  return [...state.replicas.values()].filter(stays).length > state.definition.manifest.scale.min
}

export function preparations(state: ModuleState, { nowMs }: Moment): readonly Decision[] {
  if (state.wanted !== 'enabled' || state.definition.external) return nothing
  const { preparation } = state
  if (preparation.state === 'needed') return [{ do: 'prepare' }]
  if (preparation.state !== 'failed' || nowMs < state.failure.untilMs || wantedReplicas(state).count === 0)
    return nothing
  return [{ do: 'prepare' }]
}

export function starts(state: ModuleState, moment: Moment): readonly Decision[] {
  return wantedStarts(state, moment).filter(({ replica }) => !isHeldBack(state, replica))
}

/** Also of those that wait for room. */
export function wantedStarts(state: ModuleState, { nowMs }: Moment): readonly StartDecision[] {
  if (!mayStart(state) || nowMs < state.failure.untilMs) return []
  const all = [...state.replicas.values()]
  // One that is being taken over runs already.
  const live = all.filter((replica) => stays(replica) || replica.state === 'absent').length
  const wanted = wantedReplicas(state)
  const decisions: StartDecision[] = []
  let count = live
  const failed = all.filter((replica) => replica.state === 'failed')
  for (const replica of failed.toSorted((a, b) => a.failure.untilMs - b.failure.untilMs)) {
    if (nowMs >= replica.failure.untilMs && isNeeded(state, replica, count))
      decisions.push({ do: 'start', replica: replica.id, cause: restartCause(state, replica, wanted) })
    // One whose back-off is not over holds its place: nothing else is started for it.
    count += 1
  }
  const taken = new Set<string>()
  // What still leaves holds what it has: together they must not be more than may run.
  const leaving = all.filter((replica) => replica.drain !== undefined || replica.state === 'stopping').length
  const room = Math.min(wanted.count, state.definition.manifest.scale.max - leaving)
  for (; count < room; count += 1)
    decisions.push(start(state, wanted.cause, { warm: live > 0 ? loadedAnywhere(state) : [] }, taken))
  return decisions
}

function mayStart(state: ModuleState): boolean {
  return state.wanted === 'enabled' && !state.definition.external && state.preparation.state === 'done'
}

/** Whether a failed replica is to be started again; `live`: how many others run or will. */
function isNeeded(state: ModuleState, replica: Replica, live: number): boolean {
  if (live < wantedReplicas(state).count) return true
  return isTakingOver(state, replica) || (live < state.definition.manifest.scale.max && revives(state, replica))
}

/** What it is to replace still serves. */
function isTakingOver(state: ModuleState, replica: Replica): boolean {
  const replaced = replacedBy(state, replica)
  return replaced !== undefined && stays(replaced)
}

function revives(state: ModuleState, replica: Replica): boolean {
  return replica.failure.count <= revivals && lost(state, replica).length > 0
}

function lost(state: ModuleState, replica: Replica): string[] {
  return [...replica.warm].filter((model) => modelConfiguration(state, model) !== undefined)
}

function restartCause(state: ModuleState, replica: Replica, wanted: Wanted): string {
  return revives(state, replica) ? `it had ${lost(state, replica).join(', ')} loaded` : wanted.cause
}

function start(
  state: ModuleState,
  cause: string,
  more: { readonly warm: readonly string[]; readonly replaces?: Replica },
  taken: Set<string> = new Set(),
): StartDecision {
  let index = 0
  while (state.replicas.has(`${state.id}-${index}`) || taken.has(`${state.id}-${index}`)) index += 1
  const replica = `${state.id}-${index}`
  taken.add(replica)
  return { do: 'start', replica, cause, ...more }
}

/** A further replica is to be like the others. */
export function loadedAnywhere(state: ModuleState): string[] {
  const models = [...state.replicas.values()].filter(stays).flatMap((replica) => [...replica.models.keys()])
  return [...new Set(models)]
}

function indexOf({ id }: Replica): number {
  return Number(id.slice(id.lastIndexOf('-') + 1))
}

/** When a failed replica, or a failed preparation, is due to be tried again; Infinity: nobody needs it. */
export function retryMs(state: ModuleState, nowMs: number): number {
  if (state.wanted !== 'enabled' || state.definition.external) return Number.POSITIVE_INFINITY
  const all = [...state.replicas.values()]
  const live = all.filter(stays).length
  let retry = Number.POSITIVE_INFINITY
  const wanted = wantedReplicas(state).count
  // A preparation is tried again also while an older generation serves.
  if (state.failure.untilMs > nowMs && wanted > (state.preparation.state === 'failed' ? 0 : live))
    retry = state.failure.untilMs
  for (const replica of all) {
    if (replica.state !== 'failed' || replica.failure.untilMs <= nowMs) continue
    // Others that serve in its place let it go when its time is up.
    if (live > 0 || isNeeded(state, replica, live)) retry = Math.min(retry, replica.failure.untilMs)
  }
  return retry
}
