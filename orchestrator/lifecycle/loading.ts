import { BerthError } from '../domain/errors.ts'
import { type Decision, type Moment, nothing } from './decision.ts'
import { isFree, isHeldBack, isOffloading } from './serving.ts'
import {
  isLive,
  type ModuleState,
  modelConfiguration,
  type Operation,
  type Replica,
  stays,
  type Waiter,
} from './state.ts'

/** What is loaded where: explicit loads and offloads, loads that requests wait for, and what nobody uses any more. */

export function operations(state: ModuleState): readonly Decision[] {
  const [operation] = state.operations
  if (!operation || operation.running) return nothing
  return operation.kind === 'load' ? explicitLoad(state, operation) : explicitOffload(state, operation)
}

/** One that waits for room on its GPUs is left alone. */
function mayLoad(state: ModuleState): readonly Replica[] {
  return [...state.replicas.values()].filter((replica) => isFree(replica) && !isHeldBack(state, replica.id))
}

function explicitLoad(state: ModuleState, operation: Operation): readonly Decision[] {
  const free = mayLoad(state)
  const known = free.find((replica) => Object.keys(operation.models).some((model) => replica.models.has(model)))
  const replica = known ?? emptiest(free)
  return replica ? [{ do: 'load', replica, models: operation.models, operation }] : nothing
}

/** One replica after the other; a replica that starts, or leaves, is not waited for. */
function explicitOffload(state: ModuleState, operation: Operation): readonly Decision[] {
  const having = [...state.replicas.values()].filter(
    (replica) => stays(replica) && operation.names.some((name) => replica.models.has(name)),
  )
  const busy = [...state.replicas.values()].some((replica) => stays(replica) && replica.operation)
  if (having.length === 0) return busy ? nothing : [{ do: 'finish', operation }]
  for (const replica of having) {
    if (!isFree(replica)) continue
    const models = operation.names.filter((name) => replica.models.has(name))
    if (models.some((name) => (replica.models.get(name)?.inflight ?? 0) > 0)) continue
    return [{ do: 'offload', replica, models, cause: 'it was asked for', operation }]
  }
  return nothing
}

/** When an offload gives up that waits for leases, milliseconds of the clock; Infinity: none is on its models. */
export function offloadDueMs(state: ModuleState, { kind, names, sinceMs }: Operation): number {
  const inUse = [...state.replicas.values()].some(
    (replica) => stays(replica) && names.some((name) => (replica.models.get(name)?.inflight ?? 0) > 0),
  )
  return kind === 'offload' && inUse ? sinceMs + state.definition.manifest.timeouts.drainMs : Number.POSITIVE_INFINITY
}

/** Nothing is granted on the models of an offload, so it does not wait for ever: why it is given up, or undefined. */
export function overdueOffload(state: ModuleState, operation: Operation, nowMs: number): BerthError | undefined {
  if (nowMs < offloadDueMs(state, operation)) return undefined
  const names = operation.names.join(', ')
  const seconds = state.definition.manifest.timeouts.drainMs / 1000
  const message = `Module ${state.id} was asked to offload ${names}, which is still in use after ${seconds} s (timeouts.drain) and stays loaded there; try again when its inferences have ended.`
  return new BerthError('MODULE_BUSY', message, { module: state.id, models: operation.names })
}

/** What requests wait for comes first, then what replicas are to have without anybody asking. */
export function loads(state: ModuleState): readonly Decision[] {
  const free = mayLoad(state)
  if (free.length === 0) return nothing
  for (const [model, waiters] of Map.groupBy(state.waiters, (waiter) => waiter.model)) {
    if (isOffloading(state, model)) continue
    const replica = forWaiters(state, model, waiters, free)
    if (!replica) continue
    const configuration = modelConfiguration(state, model)
    if (configuration === undefined)
      return waiters.map((waiter) => ({ do: 'reject', waiter, error: gone(state, model) }))
    return [{ do: 'load', replica, models: { [model]: configuration } }]
  }
  return warmUp(state, free)
}

/** Where a model is loaded for those who wait: anywhere when no replica has it; on one that does nothing when those that have it are full. */
function forWaiters(
  state: ModuleState,
  model: string,
  waiters: readonly Waiter[],
  free: readonly Replica[],
): Replica | undefined {
  const staying = [...state.replicas.values()].filter(stays)
  const having = staying.filter((replica) => replica.models.has(model))
  const coming = staying.filter(
    (replica) => replica.operation?.kind === 'load' && replica.operation.models.includes(model),
  )
  const lacking = free.filter((replica) => !replica.models.has(model))
  if (having.length === 0 && coming.length === 0) return emptiest(lacking)
  const inLine = waiters.filter(({ kind }) => kind === 'use')
  const room = coming.length * (inLine[0]?.maxInflight ?? 1)
  // A replica that loads serves nobody meanwhile, so a further copy goes only where that harms nobody.
  return inLine.length > room ? emptiest(lacking.filter(({ inflight }) => inflight === 0)) : undefined
}

function emptiest(replicas: readonly Replica[]): Replica | undefined {
  return replicas.toSorted((a, b) => a.models.size - b.models.size || a.inflight - b.inflight)[0]
}

function warmUp(state: ModuleState, free: readonly Replica[]): readonly Decision[] {
  for (const replica of free) {
    for (const model of replica.warm) {
      const configuration = modelConfiguration(state, model)
      if (configuration === undefined || replica.models.has(model) || isOffloading(state, model)) continue
      return [{ do: 'load', replica, models: { [model]: configuration } }]
    }
  }
  return nothing
}

/** Still to be loaded without anybody asking. */
export function warmsUp(state: ModuleState, replica: Replica): boolean {
  return [...replica.warm].some(
    (model) =>
      !replica.models.has(model) && modelConfiguration(state, model) !== undefined && !isOffloading(state, model),
  )
}

/** Models that nobody uses, and those whose configuration has changed, go when no lease is on them. */
export function idleness(state: ModuleState, { nowMs }: Moment): readonly Decision[] {
  for (const replica of state.replicas.values()) {
    if (!isFree(replica)) continue
    if (replica.yields !== undefined && replica.models.size > 0 && replica.inflight === 0)
      return [{ do: 'offload', replica, models: [...replica.models.keys()], cause: replica.yields }]
    const idle = [...replica.models].filter(
      ([name, loaded]) =>
        loaded.inflight === 0 && (loaded.stale || nowMs - loaded.lastUsedMs >= idleTtlMs(state, name)),
    )
    if (idle.length === 0) continue
    const models = idle.map(([name]) => name)
    const changed = idle.some(([, { stale }]) => stale)
    const cause = changed ? 'its configuration has changed' : 'it was idle for its idle_ttl'
    return [{ do: 'offload', replica, models, cause, idle: !changed }]
  }
  return nothing
}

export function idleTtlMs(state: ModuleState, model: string): number {
  return state.definition.models.get(model)?.idleTtlMs ?? state.definition.manifest.idleTtlMs
}

/** Asks the health of those of whom something said that their worker may be gone. */
export function probes(state: ModuleState): readonly Decision[] {
  return [...state.replicas.values()].flatMap((replica): Decision[] =>
    isLive(replica) && replica.suspicion === 'raised' && !replica.operation && isAnswering(replica)
      ? [{ do: 'probe', replica }]
      : [],
  )
}

function isAnswering({ state }: Replica): boolean {
  return state === 'ready' || state === 'idle'
}

function gone(state: ModuleState, model: string): BerthError {
  const message = `Module ${state.id} has no model ${model} any more.`
  return new BerthError('MODEL_NOT_FOUND', message, { module: state.id, model })
}
