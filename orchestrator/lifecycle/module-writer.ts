import type { Clock } from '../domain/clock.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { ObservedWorkload, Workload } from '../engines/engine.ts'
import { refusedToken } from '../runner/errors.ts'
import type { Rejection } from '../telemetry/metrics-lifecycle.ts'
import { apply } from './apply.ts'
import { Callers, reasonOf, shuttingDown } from './callers.ts'
import { decide, disabledError, followsNothing, nextWakeMs, removedError } from './decide.ts'
import type { Decision, Moment } from './decision.ts'
import type { Effects, LifecycleObserver } from './effects.ts'
import type { LifecycleEvent } from './events.ts'
import { grantLease, type Lease, type LeaseOutcome, type WaitOptions } from './lease.ts'
import { noteTurn, replicaFor } from './queue.ts'
import { dropOperation, ReplicaDriver } from './replica-driver.ts'
import type { Resources } from './resources/resources.ts'
import type { Shortage } from './resources/schedule.ts'
import { autoscales, noteLoad, rescaled } from './scaling.ts'
import { isUrgent } from './shortage.ts'
import {
  isUp,
  type LoadedModel,
  type ModuleDefinition,
  type ModuleState,
  newModuleState,
  type Operation,
  type Replica,
  type Waiter,
} from './state.ts'

export interface WriterOptions {
  readonly definition: ModuleDefinition
  readonly wanted: ModuleState['wanted']
  readonly effects: Effects
  readonly resources: Resources
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
  readonly #resources: Resources
  readonly #observer: LifecycleObserver
  readonly #clock: Clock
  readonly #random: () => number
  /** Of waiters; those who only wanted a model loaded get no lease. */
  readonly #callers = new Callers<Lease | undefined>()
  /** Of explicit operations. */
  readonly #operators = new Callers<readonly string[]>()
  readonly #driver: ReplicaDriver
  readonly #watchers = new Map<() => void, (error: BerthError) => void>()
  readonly #inbox: LifecycleEvent[] = []
  #prepareAbort: AbortController | undefined
  /** The time that the last decisions were taken for. */
  #decidedMs = 0
  #wake: { readonly atMs: number; readonly cancel: () => void } | undefined
  #running = false
  /** A replica has come, gone, changed its state or told what it has since the resources were last settled. */
  #moved = false
  #closed = false
  #nextId = 1

  constructor(options: WriterOptions) {
    this.#state = newModuleState(options.definition, options.wanted)
    this.#effects = options.effects
    this.#resources = options.resources
    this.#observer = options.observer
    this.#clock = options.clock
    this.#random = options.random
    this.#driver = new ReplicaDriver({
      state: this.#state,
      effects: options.effects,
      resources: options.resources,
      observer: options.observer,
      clock: options.clock,
      operators: this.#operators,
      post: (event) => this.post(event),
      onMove: this.#onMove,
    })
    this.#resources.join(this)
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
        apply(this.#state, next, this.#moment(), this.#onMove)
        if (next.type === 'health') this.#moved = true
        if (next.type === 'release' && followsNothing(this.#state, next.loaded)) continue
        quiet = false
        // What is given back comes to those who wait longest before this module may ask for it again.
        if (this.#moved) this.#resources.settle(this.#state, next.type === 'offloaded')
        this.#enactAll()
      }
      if (this.#moved) this.#resources.settle(this.#state, true)
      else if (!quiet) this.#resources.lookAround()
    } finally {
      this.#running = false
      this.#moved = false
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
    const replica = replicaFor(this.#state, { model, maxInflight }, this.#random())
    const lease = replica && this.#leaseOn(replica, { model, sinceMs: this.#clock.now() })
    if (lease && autoscales(this.#state)) {
      noteLoad(this.#state, this.#clock.now())
      this.#scheduleWake()
    }
    return lease
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
      turn: this.#state.turn,
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
    const sinceMs = this.#clock.now()
    const offloaded = new Set<string>()
    this.post({
      type: 'operate',
      operation: { id, kind, models, names, sinceMs, doom: undefined, running: false, offloaded },
    })
    return settled
  }

  /**
   * Takes over a workload that runs since before this orchestrator, or that somebody else runs. Resolves when its runner
   * has answered; rejects when it does not, and has one of ours stopped.
   */
  adopt(observed: ObservedWorkload, workload: Workload): Promise<void> {
    return this.#driver.adopt(observed, workload)
  }

  /** What the engine lists of this module, taken by a listing that began at `listedMs`. */
  observe(observed: readonly ObservedWorkload[], listedMs: number): void {
    this.#driver.observe(observed, listedMs)
  }

  /** Asks the health of every live replica: a worker that was replaced while idle is noticed here, a runner that is frozen at work too. */
  checkHealth(): void {
    for (const replica of [...this.#state.replicas.values()]) {
      if (replica.workload && replica.inflight === 0 && !replica.operation) {
        this.post({ type: 'suspect', replica: replica.id, generation: replica.generation })
      } else if (replica.workload && isUp(replica)) this.#driver.pulse(replica)
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
    this.#resources.leave(this)
    this.#inbox.length = 0
    this.#wake?.cancel()
    this.#prepareAbort?.abort()
    this.#callers.rejectAll(shuttingDown())
    this.#operators.rejectAll(shuttingDown())
    for (const fail of [...this.#watchers.values()]) fail(shuttingDown())
    this.#driver.close()
  }

  #enactAll(): void {
    // Every decision changes the state it was taken from, so the work per event is bounded; the bound catches bugs.
    for (let round = 0; round < 10_000; round += 1) {
      this.#decidedMs = this.#clock.now()
      const decisions = decide(this.#state, { nowMs: this.#decidedMs, random: this.#random() })
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
      case 'reject': {
        const { waiter, error } = decision
        this.#dropWaiter(waiter)
        this.#callers.take(waiter.id)?.reject(error)
        if (waiter.kind === 'use') this.#observer.rejected(this.#state.id, waiter.model, rejection(error))
        return
      }
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
      case 'start': {
        const { replica } = decision
        const placed = this.#resources.place(this.#state, replica, isUrgent(this.#state, replica))
        if (!placed.granted) return this.#holdBack(replica, placed.shortage)
        this.#state.shortages.delete(replica)
        this.#moved = true
        const generation = this.#nextGeneration(replica)
        if (generation !== undefined) this.#driver.start(decision, generation, placed.placement.devices)
        return
      }
      case 'scale': {
        const { scaling, id } = this.#state
        this.#observer.scaled(id, scaling.target, decision.target, decision.cause)
        rescaled(this.#state, decision.target, this.#decidedMs)
        return
      }
      case 'drain': {
        const { drainMs, callMs } = this.#state.definition.manifest.timeouts
        const { replica, cause, servesWaiters, idle } = decision
        if (idle) this.#driver.ladder.stopped()
        replica.drain = { deadlineMs: this.#clock.now() + drainMs, cause, servesWaiters, graceMs: callMs }
        return
      }
      case 'stop':
        this.#driver.stop(decision.replica, decision.cause)
        return
      case 'probe':
        this.#driver.probe(decision.replica)
        return
      case 'withdraw':
        this.#state.shortages.delete(decision.replica)
        this.#resources.withdraw(decision.replica)
        return
      case 'load': {
        const { replica, models, operation } = decision
        const placed = this.#resources.resume(replica.id, isUrgent(this.#state, replica.id))
        if (!placed.granted) return this.#holdBack(replica.id, placed.shortage)
        this.#state.shortages.delete(replica.id)
        this.#driver.load(replica, models, operation)
        return
      }
      case 'offload':
        if (decision.idle) this.#driver.ladder.offloaded(decision.models)
        this.#driver.offload(decision.replica, decision)
        return
      case 'finish':
        dropOperation(this.#state, decision.operation)
        // What was to be loaded again without anybody asking is not, once somebody wants it out.
        for (const { warm } of this.#state.replicas.values())
          for (const model of decision.operation.names) warm.delete(model)
        this.#operators.take(decision.operation.id)?.resolve([...decision.operation.offloaded])
        return
      case 'refuse':
        dropOperation(this.#state, decision.operation)
        this.#operators.take(decision.operation.id)?.reject(decision.error)
        return
    }
  }

  #grant(waiter: Waiter, replica: Replica): void {
    this.#dropWaiter(waiter)
    const caller = this.#callers.take(waiter.id)
    if (!caller) return
    if (waiter.kind !== 'use') return caller.resolve(undefined)
    noteTurn(this.#state, waiter)
    const lease = this.#leaseOn(replica, waiter)
    if (lease) {
      this.#observer.admitted(this.#state.id, waiter.model, this.#clock.now() - waiter.sinceMs)
      caller.resolve(lease)
    } else caller.reject(new BerthError('INTERNAL', `replica ${replica.id} was granted without being ready`))
  }

  #leaseOn(replica: Replica, waiter: { readonly model: string; readonly sinceMs: number }): Lease | undefined {
    const loaded = replica.models.get(waiter.model)
    const client = this.#driver.clientOf(replica)
    if (!loaded || !client) return undefined
    this.#state.turn += 1
    const grantedMs = this.#clock.now()
    const onRelease = (outcome: LeaseOutcome | undefined) => {
      const heldMs = this.#clock.now() - grantedMs
      this.#release(replica, { model: waiter.model, loaded, heldMs }, outcome)
    }
    return grantLease(this.#state.definition, replica, waiter, loaded, client, onRelease)
  }

  #release(
    replica: Replica,
    held: { readonly model: string; readonly loaded: LoadedModel; readonly heldMs: number },
    outcome: LeaseOutcome | undefined,
  ): void {
    const { id } = this.#state
    const { model } = held
    const ref = { replica: replica.id, generation: replica.generation }
    // What is known of the replica comes first: the lease that is given back must not be granted on a lost worker.
    if (outcome === 'out-of-memory') this.#driver.ranOutOfMemory(replica)
    if (outcome === 'lost' || outcome === 'out-of-memory') this.post({ type: 'suspect', ...ref })
    if (outcome === 'hung') {
      const message = `Module ${id}: an inference of ${model} went past its limit; the replica is replaced.`
      this.post({ type: 'condemn', ...ref, error: new BerthError('INFERENCE_TIMEOUT', message, { module: id, model }) })
    }
    if (outcome === 'stranger') this.post({ type: 'condemn', ...ref, error: refusedToken(id) })
    this.post({ type: 'release', ...ref, ...held })
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
          this.#observer.coldStart(this.#state.id, 'environment', this.#clock.now() - began)
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

  #holdBack(replica: string, shortage: Shortage): void {
    const sinceMs = this.#state.shortages.get(replica)?.sinceMs ?? this.#clock.now()
    this.#state.shortages.set(replica, { shortage, sinceMs, retry: false })
  }

  /** Undefined where the store can't be written (a full disk): that fails what precedes a start, with its back-off. */
  #nextGeneration(id: string): number | undefined {
    try {
      return this.#effects.nextGeneration(id)
    } catch (error) {
      const { specHash } = this.#state.definition
      apply(this.#state, { type: 'prepare-failed', specHash, error: toBerthError(error) }, this.#moment(), this.#onMove)
      return undefined
    }
  }

  #moment(): Moment {
    return { nowMs: this.#clock.now(), random: this.#random() }
  }

  readonly #onMove = (replica: Replica, from: ReplicaState, cause: string): void => {
    this.#moved = true
    if (replica.state === 'failed') this.#driver.failed(replica, from, cause)
    this.#observer.moved(this.#state.id, replica, from, replica.state, cause)
  }

  #dropWaiter(waiter: Waiter): void {
    const index = this.#state.waiters.indexOf(waiter)
    if (index >= 0) this.#state.waiters.splice(index, 1)
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

/** Why a request got no lease, as metrics tell it. */
function rejection({ code, details }: BerthError): Rejection {
  if (code === 'MODULE_BUSY') return details.reason === 'timeout' ? 'timeout' : 'full'
  if (code === 'MODULE_DISABLED' || code === 'MODULE_NOT_FOUND') return 'disabled'
  return code === 'ENGINE_UNAVAILABLE' || code === 'GPU_UNAVAILABLE' ? 'unavailable' : 'failed'
}
