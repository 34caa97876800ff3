import { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import { isLive, type ModuleState, modelConfiguration, type Operation, type Replica, type Waiter } from './state.ts'

/** What the writer is to do next. Each names its cause where a person could ask why. */
export type Decision =
  | { readonly do: 'prepare' }
  | { readonly do: 'start'; readonly replica: string; readonly cause: string }
  | { readonly do: 'drain'; readonly replica: Replica; readonly cause: string; readonly servesWaiters: boolean }
  | { readonly do: 'stop'; readonly replica: Replica; readonly cause: string }
  | { readonly do: 'probe'; readonly replica: Replica }
  | {
      readonly do: 'load'
      readonly replica: Replica
      readonly models: Readonly<Record<string, JsonObject>>
      readonly operation?: Operation
    }
  | {
      readonly do: 'offload'
      readonly replica: Replica
      readonly models: readonly string[]
      readonly cause: string
      readonly operation?: Operation
    }
  | { readonly do: 'finish'; readonly operation: Operation }
  | { readonly do: 'refuse'; readonly operation: Operation; readonly error: BerthError }
  | { readonly do: 'grant'; readonly waiter: Waiter; readonly replica: Replica }
  | { readonly do: 'reject'; readonly waiter: Waiter; readonly error: BerthError }
  | { readonly do: 'tell'; readonly waiter: Waiter; readonly position: number }

/** A request that comes while a start is held back this long or less waits; beyond that it is told the reason. */
const patienceMs = 2_000

/**
 * The next decisions for a state, by kind: the first kind that has any. The writer enacts them and asks again until
 * there are none. Pure: neither the state nor the world is touched.
 */
export function decide(state: ModuleState, nowMs: number): readonly Decision[] {
  for (const rule of rules) {
    const decisions = rule(state, nowMs)
    if (decisions.length > 0) return decisions
  }
  return none
}

/** A release after which `decide` has nothing to say, and no earlier wake: others use the model, and nobody waits. */
export function followsNothing(state: ModuleState, released: { readonly inflight: number }): boolean {
  return released.inflight > 0 && state.waiters.length === 0 && state.operations.length === 0
}

const none: readonly Decision[] = []

const rules: readonly ((state: ModuleState, nowMs: number) => readonly Decision[])[] = [
  refusals,
  grants,
  overflow,
  removals,
  preparations,
  probes,
  operations,
  loads,
  starts,
  idleness,
  positions,
]

function refusals(state: ModuleState, nowMs: number): readonly Decision[] {
  if (state.waiters.length === 0 && state.operations.length === 0) return none
  const decisions: Decision[] = []
  const error = refusal(state, nowMs)
  for (const waiter of state.waiters) {
    const reason = waiter.doom ?? error ?? overdue(state, waiter, nowMs)
    if (reason) decisions.push({ do: 'reject', waiter, error: reason })
  }
  for (const operation of state.operations) {
    // An offload of what can't run any more has nothing left to do.
    const reason = operation.doom ?? (operation.kind === 'load' ? error : undefined)
    if (reason) decisions.push({ do: 'refuse', operation, error: reason })
  }
  return decisions
}

/** Why nobody can be served at all, or undefined. */
function refusal(state: ModuleState, nowMs: number): BerthError | undefined {
  const serves = [...state.replicas.values()].some(
    (replica) => isLive(replica) && (replica.drain === undefined || replica.drain.servesWaiters),
  )
  if (serves) return undefined
  if (state.wanted === 'disabled') return disabledError(state.id)
  if (state.wanted === 'removed') return removedError(state.id)
  const { error, untilMs } = state.failure
  const waitMs = untilMs - nowMs
  if (error === undefined || waitMs <= patienceMs) return undefined
  return new BerthError(
    error.code,
    error.message,
    { ...error.details, retryAfterSeconds: Math.ceil(waitMs / 1000) },
    { cause: error, origin: error.origin },
  )
}

export function disabledError(id: string): BerthError {
  return new BerthError('MODULE_DISABLED', `Module ${id} is disabled; enable it with: berth enable ${id}`, {
    module: id,
  })
}

export function removedError(id: string): BerthError {
  return new BerthError('MODULE_NOT_FOUND', `Module ${id} has been removed.`, { module: id })
}

function overdue(state: ModuleState, waiter: Waiter, nowMs: number): BerthError | undefined {
  if (waiter.queuedSinceMs === undefined || nowMs - waiter.queuedSinceMs < state.definition.manifest.queue.timeoutMs)
    return undefined
  const waited = Math.round((nowMs - waiter.queuedSinceMs) / 1000)
  return new BerthError(
    'MODULE_BUSY',
    `Model ${waiter.model} of module ${state.id} was busy for ${waited} s; try again later, or raise its max_simul_users or queue.timeout.`,
    { module: state.id, model: waiter.model },
  )
}

function grants(state: ModuleState): readonly Decision[] {
  if (state.waiters.length === 0) return none
  const taken = new Map<string, number>()
  const decisions: Decision[] = []
  for (const waiter of state.waiters) {
    for (const replica of state.replicas.values()) {
      if (!canServe(replica, waiter.model) || offloadWaits(state, replica, waiter.model)) continue
      const key = `${replica.id} ${waiter.model}`
      const inflight = (replica.models.get(waiter.model)?.inflight ?? 0) + (taken.get(key) ?? 0)
      if (waiter.kind === 'use' && inflight >= waiter.maxInflight) continue
      if (waiter.kind === 'use') taken.set(key, (taken.get(key) ?? 0) + 1)
      decisions.push({ do: 'grant', waiter, replica })
      break
    }
  }
  return decisions
}

/** Where a request that nobody is in line before gets its lease at once, by the same rule as those who wait. */
export function replicaFor(state: ModuleState, model: string, maxInflight: number): Replica | undefined {
  if (state.waiters.length > 0) return undefined
  for (const replica of state.replicas.values()) {
    if (!canServe(replica, model) || offloadWaits(state, replica, model)) continue
    if ((replica.models.get(model)?.inflight ?? 0) < maxInflight) return replica
  }
  return undefined
}

/** A lease only on a replica that is ready, has the model, and is neither leaving nor under suspicion. */
function canServe(replica: Replica, model: string): boolean {
  return (
    replica.state === 'ready' &&
    replica.suspicion === 'none' &&
    replica.models.get(model)?.stale === false &&
    (replica.drain === undefined || replica.drain.servesWaiters)
  )
}

/**
 * An explicit offload that waits for leases must get its turn: nothing new is granted on its models. A replica that
 * drains is offloaded by its stop.
 */
function offloadWaits(state: ModuleState, replica: Replica, model: string): boolean {
  if (replica.drain) return false
  return state.operations.some((operation) => operation.kind === 'offload' && operation.names.includes(model))
}

/** More requests than may stand in line: the newest go. Those that only a cold start holds back stand in no line. */
function overflow(state: ModuleState): readonly Decision[] {
  const { limit } = state.definition.manifest.queue
  if (state.waiters.length <= limit) return none
  const counts = new Map<string, number>()
  const decisions: Decision[] = []
  for (const waiter of state.waiters) {
    if (waiter.kind !== 'use') continue
    const { model } = waiter
    const place = (counts.get(model) ?? 0) + 1
    counts.set(model, place)
    const served = [...state.replicas.values()].some((replica) => canServe(replica, model))
    if (place > limit + (served ? 0 : waiter.maxInflight))
      decisions.push({ do: 'reject', waiter, error: busy(state, model, limit) })
  }
  return decisions
}

function busy(state: ModuleState, model: string, limit: number): BerthError {
  const message = `Model ${model} of module ${state.id} has ${limit} requests waiting, its queue.limit; try again later.`
  return new BerthError('MODULE_BUSY', message, { module: state.id, model })
}

function removals(state: ModuleState, nowMs: number): readonly Decision[] {
  const decisions: Decision[] = []
  for (const replica of state.replicas.values()) {
    if (replica.state === 'failed' && state.wanted !== 'enabled') {
      decisions.push({ do: 'stop', replica, cause: `module ${state.id} was ${state.wanted}` })
      continue
    }
    if (!isLive(replica)) continue
    if (replica.drain) {
      const due = nowMs >= replica.drain.deadlineMs
      const done = replica.inflight === 0 && !(replica.drain.servesWaiters && couldServe(state, replica))
      if (due || done) decisions.push({ do: 'stop', replica, cause: replica.drain.cause })
      continue
    }
    const cause = unwanted(state, replica)
    if (cause) decisions.push({ do: 'drain', replica, cause, servesWaiters: state.wanted !== 'enabled' })
  }
  return decisions
}

function couldServe(state: ModuleState, replica: Replica): boolean {
  return replica.state === 'ready' && state.waiters.some((waiter) => replica.models.get(waiter.model)?.stale === false)
}

function unwanted(state: ModuleState, replica: Replica): string | undefined {
  if (state.wanted !== 'enabled') return `module ${state.id} was ${state.wanted}`
  // Until the new environment is there the old generation goes on serving.
  const { preparation, definition } = state
  if (replica.specHash !== definition.specHash && preparation.state === 'done')
    return 'its files or settings have changed'
  if (replica.generation < state.restartBelow) return state.restartCause
  return undefined
}

function preparations(state: ModuleState, nowMs: number): readonly Decision[] {
  if (state.wanted !== 'enabled') return none
  const { preparation } = state
  if (preparation.state === 'needed') return [{ do: 'prepare' }]
  if (preparation.state === 'failed' && nowMs >= state.failure.untilMs && demand(state)) return [{ do: 'prepare' }]
  return none
}

function probes(state: ModuleState): readonly Decision[] {
  const decisions: Decision[] = []
  for (const replica of state.replicas.values()) {
    if (
      replica.suspicion === 'raised' &&
      !replica.operation &&
      (replica.state === 'ready' || replica.state === 'idle')
    ) {
      decisions.push({ do: 'probe', replica })
    }
  }
  return decisions
}

function operations(state: ModuleState): readonly Decision[] {
  const operation = state.operations[0]
  if (!operation) return none
  if (operation.kind === 'offload' && ![...state.replicas.values()].some(isLive)) return [{ do: 'finish', operation }]
  const replica = [...state.replicas.values()].find((candidate) => isFree(candidate))
  if (!replica) return none
  if (operation.kind === 'load') return [{ do: 'load', replica, models: operation.models, operation }]
  const loaded = operation.names.filter((name) => replica.models.has(name))
  if (loaded.length === 0) return [{ do: 'finish', operation }]
  if (loaded.some((name) => (replica.models.get(name)?.inflight ?? 0) > 0)) return none
  return [{ do: 'offload', replica, models: loaded, cause: 'it was asked for', operation }]
}

/** Can take a load or an offload now. */
function isFree(replica: Replica): boolean {
  return (
    (replica.state === 'idle' || replica.state === 'ready') &&
    !replica.operation &&
    replica.suspicion === 'none' &&
    replica.drain === undefined
  )
}

function loads(state: ModuleState): readonly Decision[] {
  for (const replica of state.replicas.values()) {
    if (!isFree(replica)) continue
    const waiter = state.waiters.find((candidate) => !replica.models.has(candidate.model))
    if (!waiter) continue
    const configuration = modelConfiguration(state, waiter.model)
    if (configuration === undefined) {
      const error = new BerthError('MODEL_NOT_FOUND', `Module ${state.id} has no model ${waiter.model} any more.`, {
        module: state.id,
        model: waiter.model,
      })
      return [{ do: 'reject', waiter, error }]
    }
    return [{ do: 'load', replica, models: { [waiter.model]: configuration } }]
  }
  return none
}

function starts(state: ModuleState, nowMs: number): readonly Decision[] {
  if (state.wanted !== 'enabled' || state.preparation.state !== 'done') return none
  const cause = demand(state)
  if (!cause || nowMs < state.failure.untilMs) return none
  const replica = `${state.id}-0`
  const current = state.replicas.get(replica)
  return current === undefined || current.state === 'failed' ? [{ do: 'start', replica, cause }] : none
}

/** Why a replica is needed now, or undefined. */
function demand(state: ModuleState): string | undefined {
  const waiter = state.waiters[0]
  if (waiter) return waiter.kind === 'revive' ? `it had ${waiter.model} loaded` : `a request for ${waiter.model}`
  if (state.operations.some((operation) => operation.kind === 'load')) return 'a load was asked for'
  if (state.definition.manifest.scale.min > 0) return `scale.min is ${state.definition.manifest.scale.min}`
  if (state.restartCause) return state.restartCause
  return undefined
}

function idleness(state: ModuleState, nowMs: number): readonly Decision[] {
  const { manifest } = state.definition
  for (const replica of state.replicas.values()) {
    if (!isFree(replica)) continue
    const idle = [...replica.models].filter(
      ([name, loaded]) =>
        loaded.inflight === 0 && (loaded.stale || nowMs - loaded.lastUsedMs >= idleTtlMs(state, name)),
    )
    if (idle.length > 0) {
      return [
        {
          do: 'offload',
          replica,
          models: idle.map(([name]) => name),
          cause: 'it was idle for its idle_ttl, or its configuration has changed',
        },
      ]
    }
    if (replica.inflight === 0 && manifest.scale.min === 0 && nowMs - replica.lastUsedMs >= manifest.stopTtlMs) {
      return [{ do: 'drain', replica, cause: 'it was idle for its stop_ttl', servesWaiters: true }]
    }
  }
  return none
}

function idleTtlMs(state: ModuleState, model: string): number {
  return state.definition.models.get(model)?.idleTtlMs ?? state.definition.manifest.idleTtlMs
}

function positions(state: ModuleState): readonly Decision[] {
  if (state.waiters.length === 0) return none
  const counts = new Map<string, number>()
  const decisions: Decision[] = []
  for (const waiter of state.waiters) {
    if (waiter.kind !== 'use') continue
    if (![...state.replicas.values()].some((replica) => canServe(replica, waiter.model))) continue
    const position = (counts.get(waiter.model) ?? 0) + 1
    counts.set(waiter.model, position)
    if (waiter.position !== position) decisions.push({ do: 'tell', waiter, position })
  }
  return decisions
}

/** When to look again without an event, milliseconds of the clock; Infinity: not before something happens. */
export function nextWakeMs(state: ModuleState, nowMs: number): number {
  let wake = Number.POSITIVE_INFINITY
  const { manifest } = state.definition
  for (const replica of state.replicas.values()) {
    if (!isLive(replica)) continue
    if (replica.drain) {
      wake = Math.min(wake, replica.drain.deadlineMs)
      continue
    }
    // One that is busy or under suspicion is looked at again when that ends, which is an event.
    if (!isFree(replica)) continue
    if (replica.inflight === 0 && manifest.scale.min === 0)
      wake = Math.min(wake, replica.lastUsedMs + manifest.stopTtlMs)
    for (const [name, loaded] of replica.models) {
      if (loaded.inflight === 0) wake = Math.min(wake, loaded.lastUsedMs + idleTtlMs(state, name))
    }
  }
  if (state.failure.untilMs > nowMs && state.wanted === 'enabled' && demand(state))
    wake = Math.min(wake, state.failure.untilMs)
  for (const waiter of state.waiters) {
    if (waiter.queuedSinceMs !== undefined) wake = Math.min(wake, waiter.queuedSinceMs + manifest.queue.timeoutMs)
  }
  return wake
}
