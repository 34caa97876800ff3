import { BerthError } from '../domain/errors.ts'
import { canMove, type ReplicaState } from '../domain/replica.ts'
import { backOffMs, healthyAfterMs, revivals } from './back-off.ts'
import { configuredHash } from './configured-hash.ts'
import type { Moment } from './decision.ts'
import type { LifecycleEvent } from './events.ts'
import { loadedAnywhere } from './replicas.ts'
import { standingOf } from './resources/standing.ts'
import { noteLoad } from './scaling.ts'
import { isStaleInUse } from './serving.ts'
import { type Failure, isLive, isUp, type LoadedModel, type ModuleState, type Replica, stays } from './state.ts'

/** Told of every move along the state machine. */
export type OnMove = (replica: Replica, from: ReplicaState, cause: string) => void

/**
 * Folds one fact into the writer's state. Nothing is decided here: decide.ts looks at the result. Facts about a
 * generation that is no longer the current one are dropped.
 */
export function apply(state: ModuleState, event: LifecycleEvent, moment: Moment, onMove: OnMove): void {
  fold(state, event, moment, onMove)
  forgetQueueTimes(state)
  noteLoad(state, moment.nowMs)
}

function fold(state: ModuleState, event: LifecycleEvent, moment: Moment, onMove: OnMove): void {
  switch (event.type) {
    case 'define':
      noteChanges(state, event.definition)
      state.definition = event.definition
      if (state.preparation.specHash !== event.definition.specHash) {
        state.preparation = { specHash: event.definition.specHash, state: 'needed' }
        clearFailures(state)
      }
      return
    case 'want':
      if (event.wanted === state.wanted && !event.afresh) return
      if (event.wanted === 'enabled') {
        clearFailures(state)
        // One that has not gone yet stays.
        for (const replica of state.replicas.values()) {
          if (isLive(replica) && replica.drain?.servesWaiters) replica.drain = undefined
        }
        if (state.preparation.state === 'failed') state.preparation.state = 'needed'
      }
      state.wanted = event.wanted
      return
    case 'engine-back':
      if (state.preparation.error?.code === 'ENGINE_UNAVAILABLE') state.preparation.state = 'needed'
      for (const failure of [state.failure, ...[...state.replicas.values()].map((replica) => replica.failure)])
        if (failure.error?.code === 'ENGINE_UNAVAILABLE') clearFailure(failure)
      return
    case 'restart':
      clearFailures(state)
      if (state.preparation.state !== 'running') state.preparation.state = 'needed'
      for (const replica of state.replicas.values()) replica.toRestart = true
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
      fail(state.failure, event.error, moment)
      // An older generation that still serves goes on doing so.
      if (![...state.replicas.values()].some(stays)) doomAll(state, event.error)
      return
    case 'tick':
      return
    case 'room': {
      const held = state.shortages.get(event.replica)
      if (held && event.shortage) held.shortage = event.shortage
      else if (held) held.retry = true
      return
    }
    case 'not-adopted':
      state.failure.error = event.error
      return
    case 'adopt': {
      const replica = state.replicas.get(event.replica)
      if (!replica || replica.generation !== event.generation) return
      replica.workload = event.workload
      setModels(replica, event.models, moment)
      if (state.definition.external) {
        // A further one is to be like the others.
        for (const model of loadedAnywhere(state)) replica.warm.add(model)
        state.failure.error = undefined
      }
      for (const [name, loaded] of replica.models) {
        const now = configuredHash(state.definition.models.get(name)?.configuration)
        loaded.stale = (event.remembered.get(name) ?? configuredHash(undefined)) !== now
      }
      move(
        replica,
        replica.models.size > 0 ? 'ready' : 'idle',
        state.definition.external
          ? 'it was found by its labels'
          : 'adopted: it was running when the orchestrator started',
        onMove,
      )
      // What an earlier orchestrator had started for the load is kept until the load says otherwise.
      state.scaling.target = Math.max(state.scaling.target, [...state.replicas.values()].filter(stays).length)
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
      event.loaded.serviceMs = averageOf(event.loaded.serviceMs, event.heldMs)
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
      replica.bootMs = nowMs - replica.operationBeganMs
      replica.startedMs = nowMs
      replica.lastUsedMs = nowMs
      replica.failure.error = undefined
      clearFailure(state.failure)
      move(replica, 'idle', 'its runner answers', onMove)
      setModels(replica, event.models, moment)
      settle(replica, 'its runner has models loaded already', onMove)
      return
    case 'start-failed':
      if (replica.state !== 'starting' && replica.state !== 'preparing') return
      // Its workload has been removed by now.
      replica.workload = undefined
      crash(replica, event.error, moment, onMove)
      doomUnserved(state, event.error)
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
        else replica.models.set(model, { inflight: 0, serviceMs: 0, ...facts })
        // An explicit load's configuration holds for every replica.
        if (operation?.operation) outdateElsewhere(state, replica, model)
      }
      for (const model of operation?.models ?? event.models) replica.warm.delete(model)
      if (state.definition.external) loadElsewhere(state, replica, event.models)
      const missing = operation?.models.filter((model) => !event.models.includes(model)) ?? []
      doomWaiters(state, missing, notLoaded(state.id, missing))
      replica.lastUsedMs = nowMs
      replica.error = undefined
      replica.failure.error = undefined
      settle(replica, `loaded ${event.models.join(', ')}`, onMove)
      return
    }
    case 'load-failed':
      if (!isLive(replica)) return
      replica.operation = undefined
      replica.error = event.error
      for (const model of event.models) replica.warm.delete(model)
      doomWaiters(state, event.models, event.error)
      settle(replica, event.error.message, onMove)
      return
    case 'offloaded':
      if (!isLive(replica)) return
      if (replica.operation?.operation) replica.operation.operation.running = false
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
      keepLost(state, replica, event.models)
      setModels(replica, event.models, moment)
      settle(replica, 'its runner reports other models than before', onMove)
      return
    case 'condemn':
      if (!isLive(replica)) return
      replica.error = event.error
      replica.drain = farewell(state, event.error, nowMs)
      keepLost(state, replica, [])
      return
    case 'exited': {
      if (!isLive(replica)) return
      const { operation } = replica
      if (operation?.kind === 'load') doomWaiters(state, operation.models, event.error)
      keepLost(state, replica, operation?.models ?? [])
      const answered = isUp(replica)
      crash(replica, event.error, moment, onMove)
      if (!answered) doomUnserved(state, event.error)
      return
    }
    case 'stopped': {
      if (replica.state !== 'stopping') return
      const failure = replica.drain?.failure
      replica.workload = undefined
      if (failure && state.wanted === 'enabled') {
        crash(replica, failure, moment, onMove)
        return
      }
      move(replica, 'absent', 'it is gone', onMove)
      state.replicas.delete(replica.id)
      return
    }
    case 'yield':
      makeWay(state, replica, event, nowMs)
      return
    case 'adopt':
      return
  }
}

/** Whoever asked looked from outside: only what is idle as seen from here goes. */
function makeWay(
  state: ModuleState,
  replica: Replica,
  { what, neededBy }: Extract<LifecycleEvent, { type: 'yield' }>,
  nowMs: number,
): void {
  const standing = standingOf(state, replica)
  if (standing.state !== 'idle') return
  const cause = `module ${neededBy} needs what it holds, and it is idle`
  if (what === 'offload' && standing.offloadMs !== undefined) replica.yields = cause
  if (what === 'stop' && standing.stopMs !== undefined) {
    const graceMs = state.definition.manifest.timeouts.callMs
    replica.drain = { deadlineMs: nowMs, cause, servesWaiters: false, graceMs }
  }
}

/** One that says itself that it ends still finishes what it has. That somebody ends a container of his is no failure. */
function farewell({ definition }: ModuleState, error: BerthError, nowMs: number): NonNullable<Replica['drain']> {
  const { drainMs, callMs } = definition.manifest.timeouts
  const ends = error.code === 'SHUTTING_DOWN'
  return {
    deadlineMs: ends ? nowMs + drainMs : nowMs,
    cause: error.message,
    servesWaiters: false,
    graceMs: ends ? callMs : 0,
    ...(definition.external ? {} : { failure: error }),
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
  return { inflight: 0, lastUsedMs: nowMs, loadBeganMs: 0, loadedMs: 0, serviceMs: 0, stale: false }
}

/** What was loaded and is lost without anyone having asked for it is loaded again where the replica comes back. */
function keepLost(state: ModuleState, replica: Replica, kept: readonly string[]): void {
  if (state.wanted !== 'enabled') return
  for (const model of replica.models.keys()) if (!kept.includes(model)) replica.warm.add(model)
}

function crash(replica: Replica, error: BerthError, moment: Moment, onMove: OnMove): void {
  const answered = replica.state !== 'preparing' && replica.state !== 'starting'
  if (answered && moment.nowMs - replica.startedMs >= healthyAfterMs) clearFailure(replica.failure)
  fail(replica.failure, error, moment)
  replica.error = inCrashLoop(error, replica.failure.count)
  replica.failure.error = replica.error
  replica.drain = undefined
  replica.models.clear()
  replica.inflight = 0
  replica.restarts += 1
  if (replica.failure.count > revivals) replica.warm.clear()
  move(replica, 'failed', replica.error.message, onMove)
  replica.operation = undefined
}

/** A crash loop is told as such: what goes on is more than the last of its ends. */
function inCrashLoop(error: BerthError, failures: number): BerthError {
  if (failures < revivals) return error
  const message = `${error.message} (crash loop: ${failures} failures in a row; mend it, then: berth restart)`
  const { code, origin } = error
  return new BerthError(code, message, { ...error.details, crashLoop: true, failures }, { cause: error, origin })
}

function fail(failure: Failure, error: BerthError, moment: Moment): void {
  failure.count += 1
  failure.error = error
  failure.untilMs = moment.nowMs + backOffMs(failure.count, moment.random)
}

function clearFailure(failure: Failure): void {
  failure.count = 0
  failure.error = undefined
  failure.untilMs = 0
}

function clearFailures(state: ModuleState): void {
  clearFailure(state.failure)
  for (const replica of state.replicas.values()) clearFailure(replica.failure)
}

/** Whoever runs several containers wants all of them used: nothing is saved by leaving one without the model. */
function loadElsewhere(state: ModuleState, loadedOn: Replica, models: readonly string[]): void {
  for (const replica of state.replicas.values()) {
    if (replica !== loadedOn) for (const model of models) if (!replica.models.has(model)) replica.warm.add(model)
  }
}

function outdateElsewhere(state: ModuleState, loadedOn: Replica, model: string): void {
  for (const replica of state.replicas.values()) {
    const loaded = replica === loadedOn ? undefined : replica.models.get(model)
    if (loaded) loaded.stale = true
  }
}

const weightOfNewest = 0.2

function averageOf(averageMs: number, newestMs: number): number {
  return averageMs === 0 ? newestMs : averageMs + weightOfNewest * (newestMs - averageMs)
}

function doomWaiters(state: ModuleState, models: readonly string[], error: BerthError): void {
  for (const waiter of state.waiters) if (models.includes(waiter.model)) waiter.doom = error
}

/** Where no other replica is there to serve them, all who wait are told why. */
function doomUnserved(state: ModuleState, error: BerthError): void {
  if (![...state.replicas.values()].some(stays)) doomAll(state, error)
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
  if (state.waiters.length === 0) {
    state.served.clear()
    return
  }
  for (const waiter of state.waiters) {
    if (waiter.queuedSinceMs === undefined) continue
    const served = [...state.replicas.values()].some(
      (replica) =>
        (isLive(replica) && replica.models.get(waiter.model)?.stale === false) || isStaleInUse(replica, waiter.model),
    )
    if (served) continue
    waiter.queuedSinceMs = undefined
    waiter.position = 0
  }
}
