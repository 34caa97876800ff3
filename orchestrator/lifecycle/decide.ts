import { BerthError } from '../domain/errors.ts'
import { type Decision, type Moment, nothing, type Rule } from './decision.ts'
import { idleness, idleTtlMs, loads, offloadDueMs, operations, overdueOffload, probes } from './loading.ts'
import { grants, overdue, overflow, positions } from './queue.ts'
import { hasSpare, maySleep, preparations, removals, retryMs, sleeps, starts, wantedReplicas } from './replicas.ts'
import { autoscales, rescale, rescaleMs } from './scaling.ts'
import { isFree } from './serving.ts'
import { overdueForRoom, roomDueMs, withdrawals } from './shortage.ts'
import { isLive, type ModuleState } from './state.ts'
import { goneDueMs, overdueForEnd } from './stuck.ts'

/** A request that comes while a start is held back this long or less waits; beyond that it is told the reason. */
const patienceMs = 2_000

const rules: readonly Rule[] = [
  withdrawals,
  refusals,
  grants,
  overflow,
  rescale,
  removals,
  preparations,
  probes,
  operations,
  loads,
  starts,
  idleness,
  sleeps,
  positions,
]

/**
 * The next decisions for a state, by kind: the first kind that has any. The writer enacts them and asks again until
 * there are none. Pure: neither the state nor the world is touched.
 */
export function decide(state: ModuleState, moment: Moment): readonly Decision[] {
  for (const rule of rules) {
    const decisions = rule(state, moment)
    if (decisions.length > 0) return decisions
  }
  return nothing
}

/** A release after which `decide` has nothing to say, and no earlier wake: others use the model, and nobody waits. */
export function followsNothing(state: ModuleState, released: { readonly inflight: number }): boolean {
  return released.inflight > 0 && state.waiters.length === 0 && state.operations.length === 0 && !autoscales(state)
}

function refusals(state: ModuleState, { nowMs }: Moment): readonly Decision[] {
  if (state.waiters.length === 0 && state.operations.length === 0) return nothing
  const decisions: Decision[] = []
  const error = refusal(state, nowMs)
  for (const waiter of state.waiters) {
    const reason =
      waiter.doom ??
      error ??
      overdue(state, waiter, nowMs) ??
      overdueForRoom(state, waiter, nowMs) ??
      overdueForEnd(state, waiter.sinceMs, nowMs)
    if (reason) decisions.push({ do: 'reject', waiter, error: reason })
  }
  for (const operation of state.operations) {
    // An offload of what can't run any more has nothing left to do.
    const hopeless =
      operation.kind === 'load'
        ? (error ?? overdueForRoom(state, undefined, nowMs) ?? overdueForEnd(state, operation.sinceMs, nowMs))
        : overdueOffload(state, operation, nowMs)
    const reason = operation.doom ?? hopeless
    if (reason) decisions.push({ do: 'refuse', operation, error: reason })
  }
  return decisions
}

/** Why nobody can be served at all, or undefined. */
function refusal(state: ModuleState, nowMs: number): BerthError | undefined {
  const all = [...state.replicas.values()]
  if (all.some((replica) => isLive(replica) && (replica.drain === undefined || replica.drain.servesWaiters)))
    return undefined
  if (state.wanted === 'disabled') return disabledError(state.id)
  if (state.wanted === 'removed') return removedError(state.id)
  if (state.definition.manifest.scale.max === 0) return scaledToNothing(state.id)
  // One that is being taken over, or leaves, may be followed by another.
  if (state.definition.external) return all.some(({ state: now }) => now === 'absent') ? undefined : noContainer(state)
  const failed = all.filter((replica) => replica.state === 'failed')
  const held = failed.length >= wantedReplicas(state).count ? failed.map(({ failure }) => failure) : []
  const soonest = held.toSorted((a, b) => a.untilMs - b.untilMs)[0]
  const failure = state.failure.untilMs > nowMs ? state.failure : soonest
  const waitMs = (failure?.untilMs ?? 0) - nowMs
  if (failure?.error === undefined || waitMs <= patienceMs) return undefined
  const { code, message, details, origin } = failure.error
  const retryAfterSeconds = Math.ceil(waitMs / 1000)
  return new BerthError(code, message, { ...details, retryAfterSeconds }, { cause: failure.error, origin })
}

export function disabledError(id: string): BerthError {
  const message = `Module ${id} is disabled; enable it with: berth enable ${id}`
  return new BerthError('MODULE_DISABLED', message, { module: id })
}

export function removedError(id: string): BerthError {
  return new BerthError('MODULE_NOT_FOUND', `Module ${id} has been removed.`, { module: id })
}

function scaledToNothing(id: string): BerthError {
  const message = `Module ${id} is scaled to no replicas; let it have one with: berth scale ${id}=0..1`
  return new BerthError('MODULE_DISABLED', message, { module: id })
}

function noContainer(state: ModuleState): BerthError {
  if (state.failure.error) return state.failure.error
  const message = `No container of module ${state.id} runs; Berth does not start those: start one where it belongs.`
  return new BerthError('RUNNER_UNREACHABLE', message, { module: state.id })
}

/** When to look again without an event, milliseconds of the clock; Infinity: not before something happens. */
export function nextWakeMs(state: ModuleState, nowMs: number): number {
  let wake = Math.min(retryMs(state, nowMs), rescaleMs(state))
  const { manifest } = state.definition
  const mayStop = maySleep(state) && hasSpare(state)
  for (const replica of state.replicas.values()) {
    if (!isLive(replica)) continue
    if (replica.drain) {
      wake = Math.min(wake, replica.drain.deadlineMs)
      continue
    }
    // One that is busy or under suspicion is looked at again when that ends, which is an event.
    if (!isFree(replica)) continue
    if (replica.inflight === 0 && mayStop) wake = Math.min(wake, replica.lastUsedMs + manifest.stopTtlMs)
    for (const [name, loaded] of replica.models) {
      if (loaded.inflight === 0) wake = Math.min(wake, loaded.lastUsedMs + idleTtlMs(state, name))
    }
  }
  for (const waiter of state.waiters) {
    const { queuedSinceMs } = waiter
    if (queuedSinceMs !== undefined) wake = Math.min(wake, queuedSinceMs + manifest.queue.timeoutMs)
    wake = Math.min(wake, roomDueMs(state, waiter), goneDueMs(state, waiter.sinceMs))
  }
  for (const operation of state.operations) {
    wake = Math.min(wake, offloadDueMs(state, operation))
    if (operation.kind === 'load')
      wake = Math.min(wake, roomDueMs(state, undefined), goneDueMs(state, operation.sinceMs))
  }
  return wake
}
