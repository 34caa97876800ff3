import { setImmediate } from 'node:timers/promises'
import type { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { JsonObject } from '../../../orchestrator/domain/json.ts'
import type {
  EnvironmentInfo,
  ObservedWorkload,
  PrepareProgress,
  Workload,
} from '../../../orchestrator/engines/engine.ts'
import type { Effects, LifecycleObserver, ReplicaRef } from '../../../orchestrator/lifecycle/effects.ts'
import type { Lease, WaitOptions } from '../../../orchestrator/lifecycle/lease.ts'
import { ModuleWriter } from '../../../orchestrator/lifecycle/module-writer.ts'
import type { Resources } from '../../../orchestrator/lifecycle/resources/resources.ts'
import type { ModuleState } from '../../../orchestrator/lifecycle/state.ts'
import type { RunnerClient, RunnerHealth } from '../../../orchestrator/runner/client.ts'
import type { CrashKind } from '../../../orchestrator/telemetry/metrics-lifecycle.ts'
import { asker } from '../../support/asker.ts'
import { type TestDefinition, testDefinition } from '../../support/definitions.ts'
import { endlessResources } from '../../support/endless-resources.ts'
import { FakeClock } from '../../support/fake-clock.ts'

/** A writer whose every effect waits until the test says how it ends. */

export type EffectKind = 'prepare' | 'start' | 'answer' | 'load' | 'offload' | 'stop' | 'health'

interface Answers {
  prepare: EnvironmentInfo | undefined
  start: Workload
  answer: RunnerHealth
  load: readonly string[]
  offload: readonly string[]
  stop: undefined
  health: RunnerHealth
}

export interface EffectCall<K extends EffectKind = EffectKind> {
  readonly kind: K
  readonly replica?: ReplicaRef
  readonly specHash?: string
  readonly models?: Readonly<Record<string, JsonObject>>
  readonly names?: readonly string[]
  readonly devices?: readonly string[]
  readonly graceMs?: number
  readonly signal?: AbortSignal
  readonly onProgress?: (progress: PrepareProgress) => void
  settled: boolean
  resolve(answer: Answers[K]): void
  reject(error: unknown): void
}

export class RecordingEffects implements Effects {
  /** Every call, oldest first, settled or not. */
  readonly calls: EffectCall[] = []
  /** Called as an effect is asked for. */
  onCall: (call: EffectCall) => void = () => {}
  /** Set: an abort changes nothing, as where the answer was on its way already. */
  deaf = false
  readonly #generations = new Map<string, number>()

  /** The oldest call of a kind that has no answer yet. */
  open<K extends EffectKind>(kind: K): EffectCall<K> {
    const call = this.calls.find((candidate) => candidate.kind === kind && !candidate.settled)
    if (!call) throw new Error(`No ${kind} is under way; so far: ${this.calls.map(({ kind }) => kind).join(', ')}`)
    return call as unknown as EffectCall<K>
  }

  count(kind: EffectKind): number {
    return this.calls.filter((call) => call.kind === kind).length
  }

  /** Set: the store can't be written. */
  storeFault: Error | undefined

  nextGeneration(replica: string): number {
    if (this.storeFault) throw this.storeFault
    const next = (this.#generations.get(replica) ?? 0) + 1
    this.#generations.set(replica, next)
    return next
  }

  /** What is kept of loads, by `replica#generation model`. */
  readonly kept = new Map<string, string>()

  remember: Effects['remember'] = ({ id, generation }, model, hash) => {
    if (this.storeFault) throw this.storeFault
    const key = `${id}#${generation} ${model}`
    if (hash === undefined) this.kept.delete(key)
    else this.kept.set(key, hash)
  }

  remembered: Effects['remembered'] = ({ id, generation }) => {
    const prefix = `${id}#${generation} `
    const own = [...this.kept].filter(([key]) => key.startsWith(prefix))
    return new Map(own.map(([key, hash]) => [key.slice(prefix.length), hash]))
  }

  prepare: Effects['prepare'] = (definition, signal, onProgress) =>
    this.#ask('prepare', { specHash: definition.specHash, signal, onProgress })

  start: Effects['start'] = (definition, { id, generation }, devices, signal) =>
    this.#ask('start', { specHash: definition.specHash, replica: { id, generation }, devices, signal })

  connect: Effects['connect'] = (_definition, { id, generation }) => new RecordingClient(this, { id, generation })

  awaitAnswer: Effects['awaitAnswer'] = (_definition, _workload, client, signal) =>
    this.#ask('answer', { replica: (client as RecordingClient).replica, signal })

  load: Effects['load'] = (_definition, client, models, signal) =>
    this.#ask('load', { replica: (client as RecordingClient).replica, models, names: Object.keys(models), signal })

  offload: Effects['offload'] = (_definition, client, names, signal) =>
    this.#ask('offload', { replica: (client as RecordingClient).replica, names, signal })

  /** What `lastLines` tells. */
  lines: readonly string[] = []

  /** What `whyEnded` tells. */
  ended: BerthError | undefined

  whyEnded: Effects['whyEnded'] = () => Promise.resolve(this.ended)

  lastLines: Effects['lastLines'] = () => Promise.resolve(this.lines)

  stop: Effects['stop'] = (_definition, { id, generation }, _workload, graceMs) =>
    this.#ask('stop', { replica: { id, generation }, graceMs })

  health(replica: ReplicaRef, signal: AbortSignal): Promise<RunnerHealth> {
    return this.#ask('health', { replica, signal })
  }

  /** Like the real ones, an effect with a signal rejects when that aborts. */
  #ask<K extends EffectKind>(
    kind: K,
    facts: Omit<EffectCall<K>, 'kind' | 'settled' | 'resolve' | 'reject'>,
  ): Promise<Answers[K]> {
    return new Promise((resolve, reject) => {
      const call: EffectCall<K> = {
        kind,
        ...facts,
        settled: false,
        resolve(answer) {
          call.settled = true
          resolve(answer)
        },
        reject(error) {
          call.settled = true
          reject(error)
        },
      }
      this.calls.push(call as unknown as EffectCall)
      facts.signal?.addEventListener(
        'abort',
        () => {
          if (!this.deaf) call.reject(facts.signal?.reason)
        },
        { once: true },
      )
      this.onCall(call as unknown as EffectCall)
    })
  }
}

export class RecordingClient implements RunnerClient {
  readonly replica: ReplicaRef
  readonly #effects: RecordingEffects
  closed = false

  constructor(effects: RecordingEffects, replica: ReplicaRef) {
    this.#effects = effects
    this.replica = replica
  }

  health: RunnerClient['health'] = (signal) => this.#effects.health(this.replica, signal)
  load: RunnerClient['load'] = () => Promise.reject(new Error('a writer loads through its effects'))
  offload: RunnerClient['offload'] = () => Promise.reject(new Error('a writer offloads through its effects'))
  infer: RunnerClient['infer'] = () => ({ cancel() {}, resume() {} })
  calls() {}

  close() {
    this.closed = true
  }
}

/** Long enough for every promise that can settle to have settled, without a clock. */
export async function settled(): Promise<void> {
  await setImmediate()
}

export interface RigOptions extends TestDefinition {
  /** Shared with other rigs; everything is there in plenty when absent. */
  readonly resources?: Resources
  readonly clock?: FakeClock
  readonly wanted?: ModuleState['wanted']
}

export interface Asked {
  /** Of each place in the queue that was told. */
  readonly positions: number[]
  readonly lease: Promise<Lease>
  readonly abort: AbortController
  /** Set when it is settled. */
  granted?: Lease
  error?: BerthError
}

export interface AskedWork {
  readonly abort: AbortController
  readonly done: Promise<unknown>
  names?: readonly string[]
  error?: BerthError
  over: boolean
}

export function createRig(options: RigOptions = {}) {
  const clock = options.clock ?? new FakeClock()
  const effects = new RecordingEffects()
  /** What the observer was told, as text. */
  const told: string[] = []
  const crashes: CrashKind[] = []
  const observer: LifecycleObserver = {
    moved: (_module, replica, from, to) => told.push(`${replica.id}#${replica.generation} ${from} -> ${to}`),
    preparing() {},
    prepared: (_module, outcome) => told.push(`prepared ${outcome}`),
    replicaUp: (_module, replica) => told.push(`up #${replica.generation}`),
    replicaDown: (_module, replica) => told.push(`down #${replica.generation}`),
    crashed(_module, replica, cause, kind) {
      told.push(`crashed #${replica.generation}: ${cause}`)
      crashes.push(kind)
    },
    coldStart() {},
    admitted() {},
    rejected() {},
    adopted() {},
    idled: (_module, what) => told.push(`idled ${what}`),
    wayBack: (_module, what, ms) => told.push(`back ${what} ${ms}`),
    scaled: (_module, from, to) => told.push(`scaled ${from} -> ${to}`),
  }
  const resources = options.resources ?? endlessResources(clock)
  const definition = testDefinition(options)
  const writer = new ModuleWriter({
    definition,
    wanted: options.wanted ?? 'enabled',
    effects,
    resources,
    observer,
    clock,
    random: () => 0,
  })

  function acquire(model = 'm', more: Partial<WaitOptions> = {}): Asked {
    const abort = new AbortController()
    const positions: number[] = []
    const lease = writer.acquire({
      model,
      maxInflight: 1,
      ...asker,
      signal: abort.signal,
      onPosition: (position) => positions.push(position),
      ...more,
    })
    const asked: Asked = { positions, lease, abort }
    lease.then(
      (granted) => {
        asked.granted = granted
      },
      (error: BerthError) => {
        asked.error = error
      },
    )
    return asked
  }

  function work(begin: (signal: AbortSignal) => Promise<unknown>): AskedWork {
    const abort = new AbortController()
    const done = begin(abort.signal)
    const asked: AskedWork = { abort, done, over: false }
    done.then(
      (names) => {
        asked.over = true
        if (Array.isArray(names)) asked.names = names
      },
      (error: BerthError) => {
        asked.over = true
        asked.error = error
      },
    )
    return asked
  }

  const workload = (generation: number, gpus: readonly string[] = []): Workload => ({
    id: `workload-${generation}`,
    endpoint: { kind: 'unix', path: '/nowhere' },
    gpus,
  })

  return {
    clock,
    effects,
    told,
    crashes,
    writer,
    definition,
    acquire,
    work,
    workload,
    get state() {
      return writer.state
    },
    /** The one replica, or undefined. */
    get replica() {
      return [...writer.state.replicas.values()][0]
    },

    async prepared(): Promise<void> {
      effects.open('prepare').resolve(undefined)
      await settled()
    },
    async started(): Promise<void> {
      const call = effects.open('start')
      call.resolve(workload(call.replica?.generation ?? 0, call.devices))
      await settled()
    },
    async answering(models: readonly string[] = []): Promise<void> {
      effects.open('answer').resolve({ state: models.length > 0 ? 'ready' : 'idle', models })
      await settled()
    },
    async loaded(): Promise<void> {
      const call = effects.open('load')
      call.resolve(call.names ?? [])
      await settled()
    },
    async offloaded(): Promise<void> {
      const call = effects.open('offload')
      call.resolve(call.names ?? [])
      await settled()
    },
    async stopped(): Promise<void> {
      effects.open('stop').resolve(undefined)
      await settled()
    },
    async healthy(models: readonly string[]): Promise<void> {
      effects.open('health').resolve({ state: models.length > 0 ? 'ready' : 'idle', models })
      await settled()
    },
    async failing(kind: EffectKind, error: unknown): Promise<void> {
      effects.open(kind).reject(error)
      await settled()
    },

    /** A replica that answers, without a model. */
    async idle(): Promise<void> {
      writer.post({ type: 'tick' })
      await this.prepared()
      if (effects.count('start') === 0)
        void writer
          .ensureLoaded({ model: 'm', maxInflight: 1, ...asker, signal: new AbortController().signal })
          .catch(() => {})
      await this.started()
      await this.answering()
    },
    /** A replica with `m` loaded, and nobody waiting. */
    async ready(): Promise<void> {
      await this.idle()
      if (effects.count('load') === 0) {
        void writer
          .ensureLoaded({ model: 'm', maxInflight: 1, ...asker, signal: new AbortController().signal })
          .catch(() => {})
      }
      await this.loaded()
    },

    observed(more: Partial<ObservedWorkload> = {}): ObservedWorkload {
      const { id, endpoint, gpus } = workload(more.generation ?? 1)
      return {
        id,
        module: 'mod',
        replica: 'mod-0',
        generation: 1,
        specHash: definition.specHash,
        state: 'running',
        endpoint,
        gpus,
        ...more,
      }
    },
    /** The engine says that the workload of the replica has ended. */
    async exits(exit: ObservedWorkload['exit'] = { code: 3 }): Promise<void> {
      clock.advance(1)
      writer.observe(
        [this.observed({ generation: this.replica?.generation ?? 0, state: 'exited', ...(exit ? { exit } : {}) })],
        clock.now(),
      )
      await settled()
    },
  }
}

export type Rig = ReturnType<typeof createRig>

/** Whatever is under way succeeds, until nothing is. */
export async function everythingWorks(rig: Rig): Promise<void> {
  for (let round = 0; round < 50; round += 1) {
    await settled()
    const open = rig.effects.calls.filter(({ settled: over, kind }) => !over && kind !== 'health')
    if (open.length === 0) return
    for (const call of open) {
      const answers = {
        prepare: undefined,
        start: rig.workload(call.replica?.generation ?? 0),
        answer: { state: 'idle', models: [] },
        load: call.names,
        offload: call.names,
        stop: undefined,
        health: undefined,
      }
      call.resolve(answers[call.kind] as never)
    }
  }
  throw new Error('it does not come to rest')
}
