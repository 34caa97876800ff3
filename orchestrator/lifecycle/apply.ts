import { BerthError } from '../domain/errors.ts'
import { canMove, type ReplicaState } from '../domain/replica.ts'
import { backOffMs, healthyAfterMs } from './back-off.ts'
import type { LifecycleEvent } from './events.ts'
import { isLive, type LoadedModel, type ModuleState, type Replica } from './state.ts'

/** Time and chance of one event, given from outside so that a run can be repeated. */
export interface Moment {
  readonly nowMs: number
  /** In [0, 1). */
  readonly random: number
}

/** Told of every move along the state machine. */
export type OnMove = (replica: Replica, from: ReplicaState, cause: string) => void

/**
 * Folds one fact into the writer's state. Nothing is decided here: decide.ts looks at the result. Facts about a
 * generation that is no longer the current one are dropped.
 */
export function apply(state: ModuleState, event: LifecycleEvent, moment: Moment, onMove: OnMove): void {
  switch (event.type) {
    case 'define':
      markStale(state, event.definition)
      state.definition = event.definition
      if (state.preparation.specHash !== event.definition.specHash) {
        state.preparation = { specHash: event.definition.specHash, state: 'needed' }
        clearFailure(state)
      }
      return
    case 'want':
      if (event.wanted === 'enabled') {
        clearFailure(state)
        if (state.preparation.state === 'failed') state.preparation.state = 'needed'
      }
      state.wanted = event.wanted
      return
    case 'restart':
      clearFailure(state)
      if (state.preparation.state !== 'running') state.preparation.state = 'needed'
      state.restartBelow = Math.max(0, ...[...state.replicas.values()].map((replica) => replica.generation + 1))
      state.restartCause = 'restart was asked for'
      return
    case 'wait':
      state.waiters.push(event.waiter)
      return
    case 'leave':
      state.waiters = state.waiters.filter((waiter) => waiter.id !== event.waiter)
      return
    case 'operate':
      state.operations.push(event.operation)
      if (event.operation.kind === 'load') {
        for (const [model, configuration] of Object.entries(event.operation.models)) state.adhoc.set(model, configuration)
      }
      return
    case 'abandon':
      state.operations = state.operations.filter((operation) => operation.id !== event.operation)
      return
    case 'prepare-progress':
      if (event.specHash === state.preparation.specHash) state.preparation.progress = event.progress
      return
    case 'prepared':
      if (event.specHash !== state.preparation.specHash) return
      state.preparation = { specHash: event.specHash, state: 'done', environment: event.environment }
      return
    case 'prepare-failed':
      if (event.specHash !== state.preparation.specHash) return
      state.preparation = { specHash: event.specHash, state: 'failed', error: event.error }
      fail(state, event.error, moment)
      doomWaiters(state, event.error)
      return
    case 'tick':
      return
    case 'adopt': {
      const replica = state.replicas.get(event.replica)
      if (!replica || replica.generation !== event.generation) return
      replica.workload = event.workload
      setModels(replica, event.models, moment)
      move(replica, replica.models.size > 0 ? 'ready' : 'idle', 'adopted: it was running when the orchestrator started', onMove)
      return
    }
    default:
      applyToReplica(state, event, moment, onMove)
  }
}

type ReplicaEvent = Extract<LifecycleEvent, { replica: string; generation: number }>

function applyToReplica(state: ModuleState, event: ReplicaEvent, moment: Moment, onMove: OnMove): void {
  const replica = state.replicas.get(event.replica)
  if (!replica || replica.generation !== event.generation) return
  const nowMs = moment.nowMs
  switch (event.type) {
    case 'release': {
      const loaded = replica.models.get(event.model)
      if (loaded) {
        loaded.inflight = Math.max(0, loaded.inflight - 1)
        loaded.lastUsedMs = nowMs
      }
      replica.inflight = Math.max(0, replica.inflight - 1)
      replica.lastUsedMs = nowMs
      return
    }
    case 'started':
      replica.workload = event.workload
      return
    case 'answering':
      if (replica.state !== 'starting') return
      replica.startedMs = nowMs
      replica.lastUsedMs = nowMs
      setModels(replica, event.models, moment)
      move(replica, replica.models.size > 0 ? 'ready' : 'idle', 'its runner answers', onMove)
      return
    case 'start-failed':
      if (replica.state !== 'starting' && replica.state !== 'preparing') return
      crash(state, replica, event.error, moment, onMove)
      doomWaiters(state, event.error)
      return
    case 'loaded': {
      replica.operation = undefined
      for (const model of event.models) {
        const inflight = replica.models.get(model)?.inflight ?? 0
        const loadBeganMs = replica.operationBeganMs
        replica.models.set(model, { inflight, lastUsedMs: nowMs, loadBeganMs, loadedMs: nowMs, stale: false })
      }
      replica.lastUsedMs = nowMs
      replica.error = undefined
      state.failure.error = undefined
      settle(replica, `loaded ${event.models.join(', ')}`, onMove)
      return
    }
    case 'load-failed':
      replica.operation = undefined
      replica.error = event.error
      for (const waiter of state.waiters) {
        if (event.models.includes(waiter.model)) waiter.doom = event.error
      }
      settle(replica, event.error.message, onMove)
      return
    case 'offloaded':
      replica.operation = undefined
      for (const model of event.models) replica.models.delete(model)
      settle(replica, `offloaded ${event.models.join(', ')}`, onMove)
      return
    case 'offload-failed':
      replica.operation = undefined
      replica.error = event.error
      settle(replica, event.error.message, onMove)
      return
    case 'suspect':
      if (isLive(replica) && replica.suspicion === 'none') replica.suspicion = 'raised'
      return
    case 'health':
      replica.suspicion = 'none'
      if (!isLive(replica) || replica.operation) return
      reviveLost(state, replica, event.models, moment)
      setModels(replica, event.models, moment)
      settle(replica, 'its runner reports other models than before', onMove)
      return
    case 'condemn':
      if (!isLive(replica)) return
      replica.error = event.error
      replica.drain = { deadlineMs: nowMs, cause: event.error.message, servesWaiters: false, graceMs: 0 }
      return
    case 'exited':
      if (replica.state === 'stopping' || !isLive(replica)) return
      if (replica.operation?.kind === 'load') {
        for (const waiter of state.waiters) {
          if (replica.operation.models.includes(waiter.model)) waiter.doom = event.error
        }
      } else reviveLost(state, replica, [], moment)
      crash(state, replica, event.error, moment, onMove)
      return
    case 'stopped':
      move(replica, 'absent', 'it is gone', onMove)
      state.replicas.delete(replica.id)
      return
    case 'adopt':
      return
  }
}

/** Moves a replica, or throws: an illegal move is a bug in the decisions, never an input error. */
export function move(replica: Replica, to: ReplicaState, cause: string, onMove: OnMove): void {
  const from = replica.state
  if (from === to) return
  if (!canMove(from, to)) throw new BerthError('INTERNAL', `replica ${replica.id} can't go from ${from} to ${to}: ${cause}`)
  replica.state = to
  onMove(replica, from, cause)
}

/** After an operation or a health report: ready with models, idle without. */
function settle(replica: Replica, cause: string, onMove: OnMove): void {
  if (!isLive(replica) || replica.state === 'preparing' || replica.state === 'starting') return
  move(replica, replica.models.size > 0 ? 'ready' : 'idle', cause, onMove)
}

/** A model whose configuration differs from the one it was loaded with is loaded anew. */
function markStale(state: ModuleState, next: ModuleState['definition']): void {
  for (const replica of state.replicas.values()) {
    for (const [name, loaded] of replica.models) {
      const before = JSON.stringify(state.definition.models.get(name)?.configuration)
      if (before !== JSON.stringify(next.models.get(name)?.configuration)) loaded.stale = true
    }
  }
}

function setModels(replica: Replica, models: readonly string[], moment: Moment): void {
  for (const model of [...replica.models.keys()]) if (!models.includes(model)) replica.models.delete(model)
  for (const model of models) {
    if (!replica.models.has(model)) replica.models.set(model, newlyFound(moment.nowMs))
  }
}

/** A model that a runner reports without this orchestrator having loaded it. */
function newlyFound(nowMs: number): LoadedModel {
  return { inflight: 0, lastUsedMs: nowMs, loadBeganMs: 0, loadedMs: 0, stale: false }
}

/** What was loaded and is lost without anyone having asked for it comes back, unless it keeps failing. */
function reviveLost(state: ModuleState, replica: Replica, kept: readonly string[], moment: Moment): void {
  if (state.wanted !== 'enabled' || state.failure.count >= 3) return
  for (const model of replica.models.keys()) {
    if (kept.includes(model) || state.waiters.some((waiter) => waiter.model === model && waiter.kind !== 'use')) continue
    state.waiters.push({
      id: -1 - state.waiters.length - moment.nowMs,
      kind: 'revive',
      model,
      maxInflight: 1,
      sinceMs: moment.nowMs,
      queuedSinceMs: undefined,
      position: 0,
      doom: undefined,
    })
  }
}

function crash(state: ModuleState, replica: Replica, error: BerthError, moment: Moment, onMove: OnMove): void {
  if (moment.nowMs - replica.startedMs >= healthyAfterMs) clearFailure(state)
  replica.error = error
  replica.operation = undefined
  replica.models.clear()
  replica.inflight = 0
  replica.restarts += 1
  fail(state, error, moment)
  move(replica, 'failed', error.message, onMove)
}

function fail(state: ModuleState, error: BerthError, moment: Moment): void {
  state.failure.count += 1
  state.failure.error = error
  state.failure.untilMs = moment.nowMs + backOffMs(state.failure.count, moment.random)
}

export function clearFailure(state: ModuleState): void {
  state.failure.count = 0
  state.failure.error = undefined
  state.failure.untilMs = 0
}

function doomWaiters(state: ModuleState, error: BerthError): void {
  for (const waiter of state.waiters) waiter.doom = error
}
