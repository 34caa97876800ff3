import { BerthError } from '../domain/errors.ts'
import { canMove, type ReplicaState } from '../domain/replica.ts'
import { backOffMs, healthyAfterMs } from './back-off.ts'
import { configuredHash } from './configured-hash.ts'
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
  fold(state, event, moment, onMove)
  forgetQueueTimes(state)
}

function fold(state: ModuleState, event: LifecycleEvent, moment: Moment, onMove: OnMove): void {
  switch (event.type) {
    case 'define':
      noteChanges(state, event.definition)
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
        for (const [model, configuration] of Object.entries(event.operation.models))
          state.adhoc.set(model, configuration)
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
      state.preparation = {
        specHash: event.specHash,
        state: 'failed',
        error: event.error,
        progress: state.preparation.progress,
      }
      fail(state, event.error, moment)
      // An older generation that still serves goes on doing so.
      if (![...state.replicas.values()].some((replica) => isLive(replica) && !replica.drain))
        doomAll(state, event.error)
      return
    case 'tick':
      return
    case 'adopt': {
      const replica = state.replicas.get(event.replica)
      if (!replica || replica.generation !== event.generation) return
      replica.workload = event.workload
      setModels(replica, event.models, moment)
      for (const [name, loaded] of replica.models) {
        const now = configuredHash(state.definition.models.get(name)?.configuration)
        loaded.stale = (event.remembered.get(name) ?? configuredHash(undefined)) !== now
      }
      move(
        replica,
        replica.models.size > 0 ? 'ready' : 'idle',
        'adopted: it was running when the orchestrator started',
        onMove,
      )
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
      event.loaded.inflight = Math.max(0, event.loaded.inflight - 1)
      event.loaded.lastUsedMs = nowMs
      replica.inflight = Math.max(0, replica.inflight - 1)
      replica.lastUsedMs = nowMs
      return
    }
    case 'started':
      replica.workload = event.workload
      // A listing that began before now may not show it yet.
      replica.startedMs = nowMs
      return
    case 'answering':
      if (replica.state !== 'starting') return
      replica.startedMs = nowMs
      replica.lastUsedMs = nowMs
      state.failure.error = undefined
      move(replica, 'idle', 'its runner answers', onMove)
      setModels(replica, event.models, moment)
      settle(replica, 'its runner has models loaded already', onMove)
      return
    case 'start-failed':
      if (replica.state !== 'starting' && replica.state !== 'preparing') return
      // Its workload has been removed by now.
      replica.workload = undefined
      crash(state, replica, event.error, moment, onMove)
      doomAll(state, event.error)
      return
    case 'loaded': {
      if (!isLive(replica)) return
      const { operation } = replica
      replica.operation = undefined
      for (const model of event.models) {
        const stale = operation?.outdated.has(model) ?? false
        const facts = { lastUsedMs: nowMs, loadBeganMs: replica.operationBeganMs, loadedMs: nowMs, stale }
        const known = replica.models.get(model)
        if (known) Object.assign(known, facts)
        else replica.models.set(model, { inflight: 0, ...facts })
      }
      const missing = operation?.models.filter((model) => !event.models.includes(model)) ?? []
      doomWaiters(state, missing, notLoaded(state.id, missing))
      replica.lastUsedMs = nowMs
      replica.error = undefined
      state.failure.error = undefined
      settle(replica, `loaded ${event.models.join(', ')}`, onMove)
      return
    }
    case 'load-failed':
      if (!isLive(replica)) return
      replica.operation = undefined
      replica.error = event.error
      doomWaiters(state, event.models, event.error)
      settle(replica, event.error.message, onMove)
      return
    case 'offloaded':
      if (!isLive(replica)) return
      replica.operation = undefined
      for (const model of event.models) replica.models.delete(model)
      settle(replica, `offloaded ${event.models.join(', ')}`, onMove)
      return
    case 'offload-failed': {
      if (!isLive(replica)) return
      const asked = replica.operation?.operation
      replica.operation = undefined
      replica.error = event.error
      settle(replica, event.error.message, onMove)
      if (asked) return
      // Trying the same again and again frees nothing; without its worker the memory comes back.
      const { drainMs, callMs } = state.definition.manifest.timeouts
      replica.drain ??= {
        deadlineMs: nowMs + drainMs,
        cause: event.error.message,
        servesWaiters: false,
        graceMs: callMs,
      }
      return
    }
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
      replica.drain = {
        deadlineMs: nowMs,
        cause: event.error.message,
        servesWaiters: false,
        graceMs: 0,
        failure: event.error,
      }
      reviveLost(state, replica, [], moment)
      return
    case 'exited': {
      if (!isLive(replica)) return
      const { operation } = replica
      if (operation?.kind === 'load') doomWaiters(state, operation.models, event.error)
      reviveLost(state, replica, operation?.models ?? [], moment)
      const answered = replica.state !== 'starting' && replica.state !== 'preparing'
      crash(state, replica, event.error, moment, onMove)
      if (!answered) doomAll(state, event.error)
      return
    }
    case 'stopped': {
      if (replica.state !== 'stopping') return
      const failure = replica.drain?.failure
      replica.workload = undefined
      if (failure && state.wanted === 'enabled') {
        crash(state, replica, failure, moment, onMove)
        return
      }
      move(replica, 'absent', 'it is gone', onMove)
      state.replicas.delete(replica.id)
      return
    }
    case 'adopt':
      return
  }
}

/** Moves a replica, or throws: an illegal move is a bug in the decisions, never an input error. */
export function move(replica: Replica, to: ReplicaState, cause: string, onMove: OnMove): void {
  const from = replica.state
  if (from === to) return
  if (!canMove(from, to))
    throw new BerthError('INTERNAL', `replica ${replica.id} can't go from ${from} to ${to}: ${cause}`)
  replica.state = to
  onMove(replica, from, cause)
}

/** After an operation or a health report: ready with models, idle without. */
function settle(replica: Replica, cause: string, onMove: OnMove): void {
  if (!isLive(replica) || replica.state === 'preparing' || replica.state === 'starting') return
  move(replica, replica.models.size > 0 ? 'ready' : 'idle', cause, onMove)
}

/** A model whose configuration has changed is loaded anew, also where an explicit load had given it another one. */
function noteChanges(state: ModuleState, next: ModuleState['definition']): void {
  const before = state.definition.models
  for (const name of new Set([...before.keys(), ...next.models.keys()])) {
    if (JSON.stringify(before.get(name)?.configuration) === JSON.stringify(next.models.get(name)?.configuration))
      continue
    state.adhoc.delete(name)
    for (const replica of state.replicas.values()) {
      const loaded = replica.models.get(name)
      if (loaded) loaded.stale = true
      if (replica.operation?.models.includes(name)) replica.operation.outdated.add(name)
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
    if (kept.includes(model) || state.waiters.some((waiter) => waiter.model === model && waiter.kind !== 'use'))
      continue
    state.waiters.push({
      id: -1 - state.waiters.length - moment.nowMs,
      kind: 'revive',
      model,
      maxInflight: 1,
      caller: `module:${state.id}`,
      priority: 'normal',
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
  replica.drain = undefined
  replica.models.clear()
  replica.inflight = 0
  replica.restarts += 1
  fail(state, error, moment)
  move(replica, 'failed', error.message, onMove)
  replica.operation = undefined
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

function doomWaiters(state: ModuleState, models: readonly string[], error: BerthError): void {
  for (const waiter of state.waiters) if (models.includes(waiter.model)) waiter.doom = error
}

/** Nothing can be served: everyone who waits for a start is told why. */
function doomAll(state: ModuleState, error: BerthError): void {
  for (const waiter of state.waiters) waiter.doom = error
  for (const operation of state.operations) if (operation.kind === 'load') operation.doom = error
}

function notLoaded(module: string, models: readonly string[]): BerthError {
  const message = `Module ${module} answered a load without naming ${models.join(', ')} among the loaded models.`
  return new BerthError('RUNNER_PROTOCOL', message, { module, models })
}

/** A place in the queue counts while a replica has the model: the time of a start or a load is not queue.timeout's. */
function forgetQueueTimes(state: ModuleState): void {
  for (const waiter of state.waiters) {
    if (waiter.queuedSinceMs === undefined) continue
    const served = [...state.replicas.values()].some(
      (replica) => isLive(replica) && replica.models.get(waiter.model)?.stale === false,
    )
    if (served) continue
    waiter.queuedSinceMs = undefined
    waiter.position = 0
  }
}
