import type { Clock } from '../domain/clock.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { ObservedWorkload, Workload } from '../engines/engine.ts'
import type { RunnerClient } from '../runner/client.ts'
import { apply, move } from './apply.ts'
import { Callers, closedError, reasonOf } from './callers.ts'
import { configuredHash } from './configured-hash.ts'
import { type Decision, decide, disabledError, followsNothing, nextWakeMs, removedError, replicaFor } from './decide.ts'
import { crashKind, type Effects, exitError, type LifecycleObserver } from './effects.ts'
import type { LifecycleEvent } from './events.ts'
import { grantLease, type Lease, type LeaseOutcome, type WaitOptions } from './lease.ts'
import {
  type LoadedModel,
  type ModuleDefinition,
  type ModuleState,
  newModuleState,
  newReplica,
  type Operation,
  type Replica,
  type Waiter,
} from './state.ts'

/** How long a workload that was found running has to answer before it is replaced. */
const adoptMs = 3_000

/** What is open for one live replica: given back when it is gone. */
interface Handles {
  readonly abort: AbortController
  client: RunnerClient | undefined
  /** Settles when the start has ended, well or not. */
  begun: Promise<void>
  /** Its end is being dealt with: what listings show of it from now on is our own doing. */
  ended: boolean
}

export interface WriterOptions {
  readonly definition: ModuleDefinition
  readonly wanted: ModuleState['wanted']
  readonly effects: Effects
  readonly observer: LifecycleObserver
  readonly clock: Clock
  readonly random: () => number
}

/**
 * The one writer of one module. Facts are posted and folded in (apply), decisions follow from the state alone (decide),
 * and their effects post new facts. Nothing outside reads the state to decide something.
 */
export class ModuleWriter {
  readonly #state: ModuleState
  readonly #effects: Effects
  readonly #observer: LifecycleObserver
  readonly #clock: Clock
  readonly #random: () => number
  /** Of waiters; those who only wanted a model loaded get no lease. */
  readonly #callers = new Callers<Lease | undefined>()
  /** Of explicit operations. */
  readonly #operators = new Callers<readonly string[]>()
  readonly #handles = new Map<Replica, Handles>()
  readonly #watchers = new Map<() => void, (error: BerthError) => void>()
  readonly #inbox: LifecycleEvent[] = []
  #prepareAbort: AbortController | undefined
  /** The time that the last decisions were taken for. */
  #decidedMs = 0
  #wake: { readonly atMs: number; readonly cancel: () => void } | undefined
  #running = false
  #closed = false
  #nextId = 1

  constructor(options: WriterOptions) {
    this.#state = newModuleState(options.definition, options.wanted)
    this.#effects = options.effects
    this.#observer = options.observer
    this.#clock = options.clock
    this.#random = options.random
  }

  /** For views only: what is read here must not gate a change. */
  get state(): Readonly<ModuleState> {
    return this.#state
  }

  /** After `close` nothing is folded in any more. */
  post(event: LifecycleEvent): void {
    if (this.#closed) return
    this.#inbox.push(event)
    if (this.#running) return
    this.#running = true
    let quiet = true
    try {
      for (let next = this.#inbox.shift(); next; next = this.#inbox.shift()) {
        apply(this.#state, next, { nowMs: this.#clock.now(), random: this.#random() }, this.#onMove)
        if (next.type === 'release' && followsNothing(this.#state, next.loaded)) continue
        quiet = false
        this.#enactAll()
      }
    } finally {
      this.#running = false
    }
    if (!quiet) this.#scheduleWake()
    if (this.#watchers.size > 0) for (const look of [...this.#watchers.keys()]) look()
  }

  /** A lease on a ready replica, in order of arrival; starts and loads what is missing. Rejects with a BerthError. */
  async acquire(options: WaitOptions): Promise<Lease> {
    const lease = await this.#wait('use', options)
    if (!lease) throw new BerthError('INTERNAL', `module ${this.#state.id} granted nothing`)
    return lease
  }

  /** A lease, if one can be granted at once; undefined otherwise, and then nothing has changed: `acquire` waits for one. */
  acquireNow(model: string, maxInflight: number): Lease | undefined {
    if (this.#closed || this.#running || this.#state.wanted !== 'enabled') return undefined
    const replica = replicaFor(this.#state, model, maxInflight)
    return replica && this.#leaseOn(replica, { model, sinceMs: this.#clock.now() })
  }

  /** Resolves when a replica has the model loaded. */
  async ensureLoaded(options: WaitOptions): Promise<void> {
    await this.#wait('load', options)
  }

  #wait(kind: 'use' | 'load', options: WaitOptions): Promise<Lease | undefined> {
    const { signal, model } = options
    if (this.#closed) return Promise.reject(shuttingDown())
    if (signal.aborted) return Promise.reject(reasonOf(signal))
    const { wanted } = this.#state
    if (wanted !== 'enabled')
      return Promise.reject(wanted === 'disabled' ? disabledError(this.#state.id) : removedError(this.#state.id))
    const id = this.#nextId++
    const settled = this.#callers.add(id, signal, () => this.post({ type: 'leave', waiter: id }), options.onPosition)
    const waiter: Waiter = {
      id,
      kind,
      model,
      maxInflight: options.maxInflight,
      caller: options.caller,
      priority: options.priority,
      sinceMs: this.#clock.now(),
      queuedSinceMs: undefined,
      position: 0,
      doom: undefined,
    }
    this.post({ type: 'wait', waiter })
    return settled
  }

  /** SERVICE_LOAD_MODELS with these models, literally. Resolves with the names that are loaded. */
  load(models: Readonly<Record<string, JsonObject>>, signal: AbortSignal): Promise<readonly string[]> {
    return this.#operate('load', models, Object.keys(models), signal)
  }

  /** Waits for the leases on these models, then offloads those that are loaded; resolves with their names. */
  offload(names: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    return this.#operate('offload', {}, names, signal)
  }

  #operate(
    kind: Operation['kind'],
    models: Operation['models'],
    names: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly string[]> {
    if (this.#closed) return Promise.reject(shuttingDown())
    if (signal.aborted) return Promise.reject(reasonOf(signal))
    const id = this.#nextId++
    const settled = this.#operators.add(id, signal, () => this.post({ type: 'abandon', operation: id }))
    this.post({ type: 'operate', operation: { id, kind, models, names, doom: undefined } })
    return settled
  }

  /** Takes over a workload that runs since before this orchestrator. Resolves when its runner has answered; rejects, and has it stopped, when it does not. */
  async adopt(observed: ObservedWorkload, workload: Workload): Promise<void> {
    const { definition } = this.#state
    const ref = { id: observed.replica, generation: observed.generation }
    if (this.#closed) throw shuttingDown()
    if (this.#state.replicas.has(ref.id)) {
      throw new BerthError('INTERNAL', `another generation of ${ref.id} is in charge`, { module: this.#state.id })
    }
    const client = this.#effects.connect(definition, ref, workload)
    const abort = new AbortController()
    const replica = newReplica(ref.id, ref.generation, observed.specHash, this.#clock.now(), 0)
    // The record is there while its runner is asked: nothing else is started under this id meanwhile.
    this.#state.replicas.set(replica.id, replica)
    this.#handles.set(replica, { abort, client, begun: Promise.resolve(), ended: false })
    try {
      const limit = AbortSignal.any([abort.signal, AbortSignal.timeout(adoptMs)])
      const { models } = await this.#effects.awaitAnswer(definition, workload, client, limit)
      if (this.#closed) throw shuttingDown()
      const remembered = this.#effects.remembered(ref)
      this.#observer.replicaUp(this.#state.id, ref, workload, client, definition)
      this.post({ type: 'adopt', replica: ref.id, generation: ref.generation, workload, models, remembered })
    } catch (error) {
      this.#closeHandles(replica)
      // Only when it is gone may another generation start under its id.
      if (!this.#closed) await this.#effects.stop(definition, ref, workload, 0).catch(() => {})
      this.#state.replicas.delete(replica.id)
      this.post({ type: 'tick' })
      throw error
    }
  }

  /** What the engine lists of this module, taken by a listing that began at `listedMs`. */
  observe(observed: readonly ObservedWorkload[], listedMs: number): void {
    for (const replica of [...this.#state.replicas.values()]) {
      const { workload } = replica
      const handles = this.#handles.get(replica)
      if (!workload || !handles || handles.ended || listedMs <= replica.startedMs) continue
      const found = observed.find(
        (candidate) => candidate.replica === replica.id && candidate.generation === replica.generation,
      )
      if (found && found.state !== 'exited') continue
      handles.ended = true
      if (!found) this.#ended(replica, handles, removedElsewhere(this.#state.id))
      else
        this.#effects.lastLines(workload).then((lines) => {
          this.#ended(replica, handles, exitError(this.#state.id, found.exit ?? {}, lines))
        })
    }
  }

  #ended(replica: Replica, handles: Handles, error: BerthError): void {
    // A start under way ends with this reason, and cleans up before it says so.
    if (replica.state === 'starting') handles.abort.abort(error)
    else this.post({ type: 'exited', replica: replica.id, generation: replica.generation, error })
  }

  /** Asks the health of every live replica: a worker that was replaced while idle is noticed here. */
  checkHealth(): void {
    for (const replica of [...this.#state.replicas.values()]) {
      if (replica.workload && replica.inflight === 0 && !replica.operation) {
        this.post({ type: 'suspect', replica: replica.id, generation: replica.generation })
      }
    }
  }

  /** Resolves when `condition` holds for the state, which is looked at after every event. */
  until(condition: (state: Readonly<ModuleState>) => boolean, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = (finish: () => void) => {
        this.#watchers.delete(look)
        signal.removeEventListener('abort', onAbort)
        finish()
      }
      const fail = (error: BerthError) => end(() => reject(error))
      const look = () => {
        if (condition(this.#state)) end(resolve)
      }
      const onAbort = () => fail(reasonOf(signal))
      if (signal.aborted) return reject(reasonOf(signal))
      signal.addEventListener('abort', onAbort, { once: true })
      this.#watchers.set(look, fail)
      look()
      if (this.#closed && this.#watchers.has(look)) fail(shuttingDown())
    })
  }

  /** Lets go of everything without stopping anything: workloads go on for the next orchestrator. */
  close(): void {
    this.#closed = true
    this.#inbox.length = 0
    this.#wake?.cancel()
    this.#prepareAbort?.abort()
    this.#callers.rejectAll(shuttingDown())
    this.#operators.rejectAll(shuttingDown())
    for (const fail of [...this.#watchers.values()]) fail(shuttingDown())
    for (const handles of this.#handles.values()) {
      handles.abort.abort()
      handles.client?.close()
    }
    this.#handles.clear()
  }

  #enactAll(): void {
    // Every decision changes the state it was taken from, so the work per event is bounded; the bound catches bugs.
    for (let round = 0; round < 10_000; round += 1) {
      this.#decidedMs = this.#clock.now()
      const decisions = decide(this.#state, this.#decidedMs)
      if (decisions.length === 0) return
      for (const decision of decisions) this.#enact(decision)
    }
    throw new BerthError('INTERNAL', `the decisions of module ${this.#state.id} do not come to rest`)
  }

  #enact(decision: Decision): void {
    switch (decision.do) {
      case 'grant':
        this.#grant(decision.waiter, decision.replica)
        return
      case 'reject':
        this.#dropWaiter(decision.waiter)
        this.#callers.take(decision.waiter.id)?.reject(decision.error)
        return
      case 'tell': {
        const { waiter, position } = decision
        waiter.position = position
        waiter.queuedSinceMs ??= this.#clock.now()
        this.#callers.tell(waiter.id, position)
        return
      }
      case 'prepare':
        this.#prepare()
        return
      case 'start':
        this.#start(decision.replica, decision.cause)
        return
      case 'drain': {
        const { drainMs, callMs } = this.#state.definition.manifest.timeouts
        const { replica, cause, servesWaiters } = decision
        replica.drain = { deadlineMs: this.#clock.now() + drainMs, cause, servesWaiters, graceMs: callMs }
        return
      }
      case 'stop':
        this.#stop(decision.replica, decision.cause)
        return
      case 'probe':
        this.#probe(decision.replica)
        return
      case 'load':
        this.#load(decision.replica, decision.models, decision.operation)
        return
      case 'offload':
        this.#offload(decision.replica, decision.models, decision.cause, decision.operation)
        return
      case 'finish':
        this.#dropOperation(decision.operation)
        this.#operators.take(decision.operation.id)?.resolve([])
        return
      case 'refuse':
        this.#dropOperation(decision.operation)
        this.#operators.take(decision.operation.id)?.reject(decision.error)
        return
    }
  }

  #grant(waiter: Waiter, replica: Replica): void {
    this.#dropWaiter(waiter)
    const caller = this.#callers.take(waiter.id)
    if (!caller) return
    if (waiter.kind !== 'use') return caller.resolve(undefined)
    const lease = this.#leaseOn(replica, waiter)
    if (lease) caller.resolve(lease)
    else caller.reject(new BerthError('INTERNAL', `replica ${replica.id} was granted without being ready`))
  }

  #leaseOn(replica: Replica, waiter: { readonly model: string; readonly sinceMs: number }): Lease | undefined {
    const loaded = replica.models.get(waiter.model)
    const client = this.#handles.get(replica)?.client
    if (!loaded || !client) return undefined
    const onRelease = (outcome: LeaseOutcome | undefined) => this.#release(replica, waiter.model, loaded, outcome)
    return grantLease(this.#state.definition, replica, waiter, loaded, client, onRelease)
  }

  #release(replica: Replica, model: string, loaded: LoadedModel, outcome: LeaseOutcome | undefined): void {
    const { id } = this.#state
    const ref = { replica: replica.id, generation: replica.generation }
    // What is known of the replica comes first: the lease that is given back must not be granted on a lost worker.
    if (outcome === 'lost') this.post({ type: 'suspect', ...ref })
    if (outcome === 'hung') {
      const message = `Module ${id}: an inference of ${model} went past its limit; the replica is replaced.`
      this.post({ type: 'condemn', ...ref, error: new BerthError('INFERENCE_TIMEOUT', message, { module: id, model }) })
    }
    this.post({ type: 'release', ...ref, model, loaded })
  }

  #prepare(): void {
    const { definition, preparation } = this.#state
    const specHash = definition.specHash
    this.#prepareAbort?.abort()
    const abort = new AbortController()
    this.#prepareAbort = abort
    preparation.specHash = specHash
    preparation.state = 'running'
    preparation.error = undefined
    const began = this.#clock.now()
    this.#effects
      .prepare(definition, abort.signal, (progress) => {
        if (abort.signal.aborted) return
        this.#observer.preparing(this.#state.id, progress)
        this.post({ type: 'prepare-progress', specHash, progress })
      })
      .then(
        (environment) => {
          if (abort.signal.aborted) return
          this.#observer.prepared(
            this.#state.id,
            'ready',
            this.#clock.now() - began,
            'its image and environment are there',
          )
          this.post({ type: 'prepared', specHash, environment })
        },
        (error: unknown) => {
          if (abort.signal.aborted) return
          const reason = toBerthError(error)
          this.#observer.prepared(this.#state.id, 'failed', this.#clock.now() - began, reason.message)
          this.post({ type: 'prepare-failed', specHash, error: reason })
        },
      )
  }

  #start(id: string, cause: string): void {
    const { definition } = this.#state
    const before = this.#state.replicas.get(id)
    const generation = this.#nextGeneration(id)
    if (generation === undefined) return
    const replica = newReplica(id, generation, definition.specHash, this.#clock.now(), before?.restarts ?? 0)
    const handles: Handles = { abort: new AbortController(), client: undefined, begun: Promise.resolve(), ended: false }
    this.#state.replicas.set(id, replica)
    this.#state.restartCause = undefined
    this.#handles.set(replica, handles)
    move(replica, 'preparing', cause, this.#onMove)
    move(replica, 'starting', cause, this.#onMove)
    handles.begun = this.#bringUp(definition, replica, handles).catch((error: unknown) => {
      this.#closeHandles(replica)
      this.post({ type: 'start-failed', replica: id, generation, error: toBerthError(error) })
    })
  }

  /** Undefined where the store can't be written (a full disk): that fails what precedes a start, with its back-off. */
  #nextGeneration(id: string): number | undefined {
    try {
      return this.#effects.nextGeneration(id)
    } catch (error) {
      const moment = { nowMs: this.#clock.now(), random: this.#random() }
      const { specHash } = this.#state.definition
      apply(this.#state, { type: 'prepare-failed', specHash, error: toBerthError(error) }, moment, this.#onMove)
      return undefined
    }
  }

  /** A start that fails its readiness wait removes its workload first. */
  async #bringUp(definition: ModuleDefinition, replica: Replica, handles: Handles): Promise<void> {
    const ref = { replica: replica.id, generation: replica.generation }
    const { signal } = handles.abort
    const workload = await this.#effects.start(definition, replica, signal)
    this.post({ type: 'started', ...ref, workload })
    try {
      const client = this.#effects.connect(definition, replica, workload)
      handles.client = client
      const health = await this.#effects.awaitAnswer(definition, workload, client, signal)
      if (signal.aborted) throw closedError()
      this.#observer.replicaUp(this.#state.id, replica, workload, client, definition)
      this.post({ type: 'answering', ...ref, models: health.models })
    } catch (error) {
      handles.ended = true
      // Closed: it is left to the next orchestrator, which adopts or removes it.
      if (!this.#closed) await this.#effects.stop(definition, replica, workload, 0).catch(() => {})
      throw signal.reason instanceof BerthError ? signal.reason : error
    }
  }

  #stop(replica: Replica, cause: string): void {
    const { definition } = this.#state
    const ref = { replica: replica.id, generation: replica.generation }
    const begun = this.#handles.get(replica)?.begun ?? Promise.resolve()
    // It may clean up also when its requests did not end in time; a hung one was condemned, which leaves no grace.
    const graceMs = replica.workload ? (replica.drain?.graceMs ?? 0) : 0
    move(replica, 'stopping', cause, this.#onMove)
    replica.models.clear()
    this.#failOperation(replica, replica.drain?.failure)
    this.#closeHandles(replica)
    this.#observer.replicaDown(this.#state.id, replica)
    // A start under way sees its signal, ends and cleans up first: two hands never work on one workload.
    begun
      .then(() => this.#effects.stop(definition, replica, replica.workload, graceMs))
      .catch(() => {})
      .then(() => this.post({ type: 'stopped', ...ref }))
  }

  #probe(replica: Replica): void {
    const client = this.#handles.get(replica)?.client
    const ref = { replica: replica.id, generation: replica.generation }
    replica.suspicion = 'asking'
    if (!client) return
    client.health(AbortSignal.timeout(10_000)).then(
      (health) => {
        if (health.state === 'failed')
          this.post({ type: 'condemn', ...ref, error: health.error ?? failedRunner(this.#state.id) })
        else this.post({ type: 'health', ...ref, models: health.models })
      },
      async (error: unknown) => this.post({ type: 'condemn', ...ref, error: await this.#explain(replica, error) }),
    )
  }

  /** A runner that is gone has often taken its workload's exit code with it: that says more than a refused connection. */
  async #explain(replica: Replica, error: unknown): Promise<BerthError> {
    const reason = toBerthError(error)
    const { workload } = replica
    if (reason.code !== 'RUNNER_UNREACHABLE' || !workload) return reason
    return (await this.#effects.whyEnded(this.#state.definition, workload)) ?? reason
  }

  #load(replica: Replica, models: Readonly<Record<string, JsonObject>>, operation: Operation | undefined): void {
    const names = Object.keys(models)
    const ref = { replica: replica.id, generation: replica.generation }
    this.#begin(
      replica,
      { kind: 'load', models: names, outdated: new Set(), ...(operation ? { operation } : {}) },
      `loads ${names.join(', ')}`,
    )
    const handles = this.#handles.get(replica)
    if (!handles?.client) return
    const { definition } = this.#state
    // Killed in between, nobody knows what was loaded: the next orchestrator loads it anew.
    for (const name of names) this.#remember(replica, name, undefined)
    this.#effects.load(definition, handles.client, models, handles.abort.signal).then(
      (loaded) => {
        for (const name of loaded)
          this.#remember(replica, name, configuredHash(definition.models.get(name)?.configuration))
        this.post({ type: 'loaded', ...ref, models: loaded })
        if (operation) this.#operators.take(operation.id)?.resolve(loaded)
      },
      async (error: unknown) => {
        if (handles.abort.signal.aborted) return
        const reason = await this.#explain(replica, error)
        if (handles.abort.signal.aborted) return
        // The suspicion comes first: the next load must not begin on a worker that may be stuck.
        if (reason.code !== 'LOAD_FAILED') this.post({ type: 'suspect', ...ref })
        this.post({ type: 'load-failed', ...ref, models: names, error: reason })
        if (operation) this.#operators.take(operation.id)?.reject(reason)
      },
    )
  }

  /** Where it can't be kept (a full disk), the model serves all the same and is loaded anew after a restart. */
  #remember(replica: Replica, model: string, hash: string | undefined): void {
    if (this.#closed) return
    try {
      this.#effects.remember({ id: replica.id, generation: replica.generation }, model, hash)
    } catch {
      // Whether the store takes anything is asked, and told, at every start and by readyz.
    }
  }

  #offload(replica: Replica, names: readonly string[], cause: string, operation: Operation | undefined): void {
    const ref = { replica: replica.id, generation: replica.generation }
    this.#begin(
      replica,
      { kind: 'offload', models: names, outdated: new Set(), ...(operation ? { operation } : {}) },
      `offloads ${names.join(', ')}: ${cause}`,
    )
    const handles = this.#handles.get(replica)
    if (!handles?.client) return
    this.#effects.offload(this.#state.definition, handles.client, names, handles.abort.signal).then(
      (offloaded) => {
        this.post({ type: 'offloaded', ...ref, models: names })
        if (operation) this.#operators.take(operation.id)?.resolve(offloaded)
      },
      (error: unknown) => {
        if (handles.abort.signal.aborted) return
        const reason = toBerthError(error)
        this.post({ type: 'suspect', ...ref })
        this.post({ type: 'offload-failed', ...ref, models: names, error: reason })
        if (operation) this.#operators.take(operation.id)?.reject(reason)
      },
    )
  }

  #begin(replica: Replica, running: NonNullable<Replica['operation']>, cause: string): void {
    if (running.operation) this.#dropOperation(running.operation)
    replica.operation = running
    replica.operationBeganMs = this.#clock.now()
    move(replica, running.kind === 'load' ? 'loading' : 'offloading', cause, this.#onMove)
  }

  /** An explicit operation under way ends with its replica. */
  #failOperation(replica: Replica, failure: BerthError | undefined): void {
    const running = replica.operation?.operation
    replica.operation = undefined
    if (!running) return
    const { id } = this.#state
    const stopped = () =>
      new BerthError('WORKLOAD_EXITED', `Module ${id} was stopped before it had finished.`, { module: id })
    this.#operators.take(running.id)?.reject(failure ?? stopped())
  }

  readonly #onMove = (replica: Replica, from: ReplicaState, cause: string): void => {
    if (replica.state === 'failed') {
      this.#observer.crashed(this.#state.id, replica, cause, crashKind(from, replica.error))
      this.#observer.replicaDown(this.#state.id, replica)
      this.#failOperation(replica, replica.error)
      const { definition } = this.#state
      this.#closeHandles(replica)
      // What is left of it (an ended container) goes; the next generation has another name in every record.
      if (replica.workload) this.#effects.stop(definition, replica, replica.workload, 0).catch(() => {})
    }
    this.#observer.moved(this.#state.id, replica, from, replica.state, cause)
  }

  #closeHandles(replica: Replica): void {
    const handles = this.#handles.get(replica)
    this.#handles.delete(replica)
    handles?.abort.abort()
    handles?.client?.close()
  }

  #dropWaiter(waiter: Waiter): void {
    const index = this.#state.waiters.indexOf(waiter)
    if (index >= 0) this.#state.waiters.splice(index, 1)
  }

  #dropOperation(operation: Operation): void {
    this.#state.operations = this.#state.operations.filter((candidate) => candidate !== operation)
  }

  #scheduleWake(): void {
    if (this.#closed) return
    // As of the decisions: what has become due since then must not be taken for dealt with.
    const atMs = nextWakeMs(this.#state, this.#decidedMs)
    if (atMs === Number.POSITIVE_INFINITY || (this.#wake && this.#wake.atMs <= atMs)) return
    this.#wake?.cancel()
    const cancel = this.#clock.schedule(Math.max(1, atMs - this.#clock.now()), () => {
      this.#wake = undefined
      this.post({ type: 'tick' })
    })
    this.#wake = { atMs, cancel }
  }
}

function removedElsewhere(id: string): BerthError {
  return new BerthError('WORKLOAD_EXITED', `Module ${id}: its container was removed by somebody else.`, {
    module: id,
    removed: true,
  })
}

function failedRunner(id: string): BerthError {
  return new BerthError(
    'WORKLOAD_EXITED',
    `The runner of module ${id} has failed without saying why; see: berth logs ${id}`,
    { module: id },
  )
}

function shuttingDown(): BerthError {
  return new BerthError('SHUTTING_DOWN', 'Berth is shutting down; try again in a moment.')
}
