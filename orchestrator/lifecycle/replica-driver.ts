import type { Clock } from '../domain/clock.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { ObservedWorkload, Workload } from '../engines/engine.ts'
import type { RunnerClient, RunnerHealth } from '../runner/client.ts'
import { isStranger } from '../runner/errors.ts'
import { move, type OnMove } from './apply.ts'
import { type Callers, closedError, shuttingDown } from './callers.ts'
import { configuredHash } from './configured-hash.ts'
import { disabledError } from './decide.ts'
import type { Decision } from './decision.ts'
import { crashKind, type Effects, exitError, type LifecycleObserver } from './effects.ts'
import type { LifecycleEvent } from './events.ts'
import { IdleLadder } from './idle-ladder.ts'
import type { Resources } from './resources/resources.ts'
import { type ModuleDefinition, type ModuleState, newReplica, type Operation, type Replica } from './state.ts'

/** How long a workload that was found running has to answer before it is replaced; somebody else's may just be starting. */
const adoptMs = 3_000
const attachMs = 60_000

/** What is open for one live replica: given back when it is gone. */
interface Handles {
  readonly abort: AbortController
  client: RunnerClient | undefined
  /** Settles when the start has ended, well or not. */
  begun: Promise<void>
  /** Its end is being dealt with: what listings show of it from now on is our own doing. */
  ended: boolean
  /** How often in a row its health was asked while it worked, and has not answered. */
  silences: number
  asking: boolean
}

/** A runner answers while its module computes: one that has been silent so often in a row is frozen. */
const mostSilences = 3
const silenceMs = 10_000

type StartDecision = Extract<Decision, { do: 'start' }>
type OffloadDecision = Extract<Decision, { do: 'offload' }>

export interface DriverOptions {
  /** The writer's: the driver is its hands. */
  readonly state: ModuleState
  readonly effects: Effects
  readonly resources: Resources
  readonly observer: LifecycleObserver
  readonly clock: Clock
  /** Of explicit operations. */
  readonly operators: Callers<readonly string[]>
  readonly post: (event: LifecycleEvent) => void
  readonly onMove: OnMove
}

/** Carries out what its writer has decided about replicas; how it went is posted to the writer as the next fact. */
export class ReplicaDriver {
  readonly ladder: IdleLadder
  readonly #state: ModuleState
  readonly #effects: Effects
  readonly #resources: Resources
  readonly #observer: LifecycleObserver
  readonly #clock: Clock
  readonly #operators: Callers<readonly string[]>
  readonly #post: (event: LifecycleEvent) => void
  readonly #onMove: OnMove
  readonly #handles = new Map<Replica, Handles>()
  /** Of which replicas a request has told that memory ran out, until their health is known. */
  readonly #outOfMemory = new WeakSet<Replica>()
  #closed = false

  constructor(options: DriverOptions) {
    this.#state = options.state
    this.#effects = options.effects
    this.#resources = options.resources
    this.#observer = options.observer
    this.#clock = options.clock
    this.#operators = options.operators
    this.#post = options.post
    this.#onMove = options.onMove
    this.ladder = new IdleLadder(options.state.id, options.observer)
  }

  /** The client of a replica that answers. */
  clientOf(replica: Replica): RunnerClient | undefined {
    return this.#handles.get(replica)?.client
  }

  /** Takes over a workload that runs since before this orchestrator. Resolves when its runner has answered; rejects, and has it stopped, when it does not. */
  async adopt(observed: ObservedWorkload, workload: Workload): Promise<void> {
    const { definition } = this.#state
    const ref = { id: observed.replica, generation: observed.generation }
    const beganMs = this.#clock.now()
    if (this.#closed) throw shuttingDown()
    if (this.#state.wanted !== 'enabled') throw disabledError(this.#state.id)
    if (this.#state.replicas.has(ref.id)) {
      throw new BerthError('INTERNAL', `another generation of ${ref.id} is in charge`, { module: this.#state.id })
    }
    const client = this.#effects.connect(definition, ref, workload)
    const abort = new AbortController()
    const replica = newReplica(ref.id, ref.generation, observed.specHash, this.#clock.now())
    // The record is there while its runner is asked: nothing else is started under this id meanwhile.
    this.#state.replicas.set(replica.id, replica)
    this.#handles.set(replica, { abort, client, begun: Promise.resolve(), ended: false, silences: 0, asking: false })
    try {
      const limit = AbortSignal.any([abort.signal, AbortSignal.timeout(definition.external ? attachMs : adoptMs)])
      const { models } = await this.#effects.awaitAnswer(definition, workload, client, limit)
      if (this.#closed) throw shuttingDown()
      const remembered = this.#effects.remembered(ref)
      this.#observer.replicaUp(this.#state.id, ref, workload, client, definition)
      this.#observer.adopted(this.#state.id, ref, this.#clock.now() - beganMs)
      this.#post({ type: 'adopt', replica: ref.id, generation: ref.generation, workload, models, remembered })
    } catch (error) {
      this.#closeHandles(replica)
      // Only when it is gone may another generation start under its id.
      if (!this.#closed) await this.#effects.stop(definition, ref, workload, 0).catch(() => {})
      this.#state.replicas.delete(replica.id)
      const reason = toBerthError(error)
      // One that is just ending is no trouble, and one of ours is replaced.
      if (definition.external && reason.code !== 'SHUTTING_DOWN') this.#post({ type: 'not-adopted', error: reason })
      else this.#post({ type: 'tick' })
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
      if (this.#state.definition.external) {
        const error = noLongerThere(this.#state.id, replica.id)
        this.#post({ type: 'condemn', replica: replica.id, generation: replica.generation, error })
      } else if (!found) this.#ended(replica, handles, removedElsewhere(this.#state.id))
      else
        this.#effects.lastLines(workload).then((lines) => {
          this.#ended(replica, handles, exitError(this.#state.id, found.exit ?? {}, lines))
        })
    }
  }

  #ended(replica: Replica, handles: Handles, error: BerthError): void {
    // A start under way ends with this reason, and cleans up before it says so.
    if (replica.state === 'starting') handles.abort.abort(error)
    else this.#post({ type: 'exited', replica: replica.id, generation: replica.generation, error })
  }

  /** With these devices. */
  start({ replica: id, cause, ...origin }: StartDecision, generation: number, devices: readonly string[]): void {
    const { definition } = this.#state
    const before = this.#state.replicas.get(id)
    const replica = newReplica(id, generation, definition.specHash, this.#clock.now(), { ...origin, before })
    const handles: Handles = {
      abort: new AbortController(),
      client: undefined,
      begun: Promise.resolve(),
      ended: false,
      silences: 0,
      asking: false,
    }
    this.#state.replicas.set(id, replica)
    this.#state.restartCause = undefined
    this.#handles.set(replica, handles)
    move(replica, 'preparing', cause, this.#onMove)
    move(replica, 'starting', cause, this.#onMove)
    handles.begun = this.#bringUp(definition, replica, devices, handles).catch((error: unknown) => {
      this.#closeHandles(replica)
      this.#post({ type: 'start-failed', replica: id, generation, error: toBerthError(error) })
    })
  }

  /** A start that fails its readiness wait removes its workload first. */
  async #bringUp(
    definition: ModuleDefinition,
    replica: Replica,
    devices: readonly string[],
    handles: Handles,
  ): Promise<void> {
    const ref = { replica: replica.id, generation: replica.generation }
    const { signal } = handles.abort
    const beganMs = this.#clock.now()
    const workload = await this.#effects.start(definition, replica, devices, signal)
    const createdMs = this.#clock.now()
    this.#observer.coldStart(this.#state.id, 'create', createdMs - beganMs)
    this.#post({ type: 'started', ...ref, workload })
    try {
      const client = this.#effects.connect(definition, replica, workload)
      handles.client = client
      const health = await this.#effects.awaitAnswer(definition, workload, client, signal)
      if (signal.aborted) throw closedError()
      this.#observer.coldStart(this.#state.id, 'boot', this.#clock.now() - createdMs)
      this.ladder.started(this.#clock.now() - beganMs)
      this.#observer.replicaUp(this.#state.id, replica, workload, client, definition)
      this.#post({ type: 'answering', ...ref, models: health.models })
    } catch (error) {
      handles.ended = true
      // Closed: it is left to the next orchestrator, which adopts or removes it.
      if (!this.#closed) await this.#effects.stop(definition, replica, workload, 0).catch(() => {})
      throw signal.reason instanceof BerthError ? signal.reason : error
    }
  }

  stop(replica: Replica, cause: string): void {
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
      .then(() => this.#post({ type: 'stopped', ...ref }))
  }

  probe(replica: Replica): void {
    const client = this.#handles.get(replica)?.client
    const ref = { replica: replica.id, generation: replica.generation }
    replica.suspicion = 'asking'
    if (!client) return
    client.health(AbortSignal.timeout(10_000)).then(
      (health) => {
        if (health.state === 'failed')
          this.#post({ type: 'condemn', ...ref, error: health.error ?? failedRunner(this.#state.id) })
        else {
          this.#tellLostWorker(replica, health)
          this.#post({ type: 'health', ...ref, models: health.models })
        }
        this.#measured(replica, health)
      },
      async (error: unknown) => this.#post({ type: 'condemn', ...ref, error: await this.#explain(replica, error) }),
    )
  }

  /** A request of this replica has ended so; whether its worker has ended with it, its health tells. */
  ranOutOfMemory(replica: Replica): void {
    this.#outOfMemory.add(replica)
  }

  /** A runner that has nothing left of what was loaded has a new worker: the old one is gone. */
  #tellLostWorker(replica: Replica, health: RunnerHealth): void {
    const kind = this.#outOfMemory.delete(replica) ? 'out-of-memory' : 'exited'
    if (replica.models.size === 0 || health.models.length > 0) return
    const names = [...replica.models.keys()].join(', ')
    this.#observer.crashed(
      this.#state.id,
      replica,
      `its worker has ended and was replaced; it had ${names} loaded`,
      kind,
    )
  }

  /** One that is at work is asked too: how much memory of its GPUs it uses, and whether it is there at all. */
  pulse(replica: Replica): void {
    const handles = this.#handles.get(replica)
    if (!handles?.client || handles.asking) return
    handles.asking = true
    handles.client
      .health(AbortSignal.timeout(silenceMs))
      .then(
        (health) => {
          handles.silences = 0
          this.#measured(replica, health)
        },
        () => {
          handles.silences += 1
          if (handles.silences < mostSilences) return
          const { id: module } = this.#state
          this.#post({ type: 'condemn', replica: replica.id, generation: replica.generation, error: frozen(module) })
        },
      )
      .finally(() => {
        handles.asking = false
      })
  }

  #measured(replica: Replica, { gpuMemory }: RunnerHealth): void {
    const devices = replica.workload?.gpus ?? []
    if (gpuMemory && devices.length > 0 && !this.#closed) this.#resources.measure(replica.id, devices, gpuMemory)
  }

  /** A runner that is gone has often taken its workload's exit code with it: that says more than a refused connection. */
  async #explain(replica: Replica, error: unknown): Promise<BerthError> {
    const reason = toBerthError(error)
    const { workload } = replica
    if (reason.code !== 'RUNNER_UNREACHABLE' || !workload) return reason
    return (await this.#effects.whyEnded(this.#state.definition, workload)) ?? reason
  }

  load(replica: Replica, models: Readonly<Record<string, JsonObject>>, operation: Operation | undefined): void {
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
    const beganMs = this.#clock.now()
    // Killed in between, nobody knows what was loaded: the next orchestrator loads it anew.
    for (const name of names) this.#remember(replica, name, undefined)
    this.#effects.load(definition, handles.client, models, handles.abort.signal).then(
      (loaded) => {
        this.#observer.coldStart(this.#state.id, 'load', this.#clock.now() - beganMs)
        this.ladder.loaded(loaded, this.#clock.now() - beganMs)
        for (const name of loaded)
          this.#remember(replica, name, configuredHash(definition.models.get(name)?.configuration))
        this.#post({ type: 'loaded', ...ref, models: loaded })
        if (operation) this.#operators.take(operation.id)?.resolve(loaded)
      },
      async (error: unknown) => {
        if (handles.abort.signal.aborted) return
        const reason = await this.#explain(replica, error)
        if (handles.abort.signal.aborted) return
        // The suspicion comes first: the next load must not begin on a worker that may be stuck.
        if (isStranger(reason)) this.#post({ type: 'condemn', ...ref, error: reason })
        else if (reason.code !== 'LOAD_FAILED') this.#post({ type: 'suspect', ...ref })
        this.#post({ type: 'load-failed', ...ref, models: names, error: reason })
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

  offload(replica: Replica, { models: names, cause, operation }: OffloadDecision): void {
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
        for (const name of offloaded) operation?.offloaded.add(name)
        this.#post({ type: 'offloaded', ...ref, models: names })
      },
      (error: unknown) => {
        if (handles.abort.signal.aborted) return
        const reason = toBerthError(error)
        this.#post({ type: 'suspect', ...ref })
        if (operation) dropOperation(this.#state, operation)
        this.#post({ type: 'offload-failed', ...ref, models: names, error: reason })
        if (operation) this.#operators.take(operation.id)?.reject(reason)
      },
    )
  }

  #begin(replica: Replica, running: NonNullable<Replica['operation']>, cause: string): void {
    // An offload keeps its turn until no replica has its models.
    if (running.operation?.kind === 'load') dropOperation(this.#state, running.operation)
    else if (running.operation) running.operation.running = true
    replica.yields = undefined
    replica.operation = running
    replica.operationBeganMs = this.#clock.now()
    move(replica, running.kind === 'load' ? 'loading' : 'offloading', cause, this.#onMove)
  }

  /** An explicit operation under way ends with its replica. */
  #failOperation(replica: Replica, failure: BerthError | undefined): void {
    const running = replica.operation?.operation
    replica.operation = undefined
    if (!running) return
    dropOperation(this.#state, running)
    const { id } = this.#state
    const stopped = () =>
      new BerthError('WORKLOAD_EXITED', `Module ${id} was stopped before it had finished.`, { module: id })
    this.#operators.take(running.id)?.reject(failure ?? stopped())
  }

  #closeHandles(replica: Replica): void {
    const handles = this.#handles.get(replica)
    this.#handles.delete(replica)
    handles?.abort.abort()
    handles?.client?.close()
  }

  /** It has just moved to `failed`. */
  failed(replica: Replica, from: ReplicaState, cause: string): void {
    const { id, definition } = this.#state
    this.#observer.crashed(id, replica, cause, crashKind(from, replica.error))
    this.#observer.replicaDown(id, replica)
    this.#failOperation(replica, replica.error)
    this.#closeHandles(replica)
    // What is left of it (an ended container) goes; the next generation has another name in every record.
    if (replica.workload) this.#effects.stop(definition, replica, replica.workload, 0).catch(() => {})
  }

  /** Lets go of everything without stopping anything. */
  close(): void {
    this.#closed = true
    for (const replica of [...this.#handles.keys()]) this.#closeHandles(replica)
  }
}

export function dropOperation(state: ModuleState, operation: Operation): void {
  state.operations = state.operations.filter((candidate) => candidate !== operation)
}

function removedElsewhere(id: string): BerthError {
  return new BerthError('WORKLOAD_EXITED', `Module ${id}: its container was removed by somebody else.`, {
    module: id,
    removed: true,
  })
}

function noLongerThere(id: string, container: string): BerthError {
  const message = `The container ${container} of module ${id} no longer runs, or can't be reached any more.`
  return new BerthError('WORKLOAD_EXITED', message, { module: id, container })
}

function frozen(id: string): BerthError {
  const seconds = (mostSilences * silenceMs) / 1000
  const message = `The runner of module ${id} has not answered for ${seconds} s, although it had work; see: berth logs ${id}`
  return new BerthError('RUNNER_UNREACHABLE', message, { module: id })
}

function failedRunner(id: string): BerthError {
  return new BerthError(
    'WORKLOAD_EXITED',
    `The runner of module ${id} has failed without saying why; see: berth logs ${id}`,
    { module: id },
  )
}
