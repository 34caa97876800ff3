import type { CatalogEntry } from '../catalog/catalog.ts'
import type { Clock } from '../domain/clock.ts'
import type { BerthError } from '../domain/errors.ts'
import type { ModelDefinition, ModuleManifest, Scale } from '../domain/manifest.ts'
import type { PlanStepView } from '../domain/views.ts'
import type { Engine, ObservedWorkload } from '../engines/engine.ts'
import type { Effects, LifecycleObserver } from '../lifecycle/effects.ts'
import { forecast } from '../lifecycle/forecast.ts'
import { ModuleWriter } from '../lifecycle/module-writer.ts'
import type { Resources } from '../lifecycle/resources/resources.ts'
import { defineModule, type Instance } from '../lifecycle/workload.ts'
import { type KnownModule, type PlanStep, plan } from './plan.ts'
import type { ExternalReplica } from './read-containers.ts'
import { planStepView } from './views.ts'

/** Keeps one writer per module in step with what is desired, and the engine in step with the writers. */

export interface DesiredState {
  readonly modules: readonly CatalogEntry[]
  /** Models that can be asked for by name, of modules that are there and of modules that are not. */
  readonly models: ReadonlyMap<string, ModelDefinition>
  /** alias -> model */
  readonly aliases: ReadonlyMap<string, string>
  readonly modelErrors: ReadonlyMap<string, BerthError>
  readonly disabled: ReadonlySet<string>
  /** Numbers of replicas that a user asked for: they win over the manifest's. */
  readonly scales: ReadonlyMap<string, Scale>
}

export interface ModuleRecord {
  readonly id: string
  /** What the catalog says now. */
  desired: CatalogEntry
  /** Absent while there has been no usable manifest. A later bad edit keeps the last good one at work. */
  writer: ModuleWriter | undefined
  /** Fingerprint of the definition that the writer has. */
  fingerprint: string
}

export interface SupervisorOptions {
  readonly engine: Engine
  readonly instance: Instance
  readonly effects: Effects
  readonly resources: Resources
  readonly observer: LifecycleObserver
  readonly clock: Clock
  /** Containers that somebody else runs, where there can be any. */
  readonly external?: {
    /** Looks what there is. */
    refresh(): Promise<void>
    replicasOf(module: string): readonly ExternalReplica[]
  }
  readonly random: () => number
  /** Told how long a listing and what followed from it at once took, milliseconds. */
  readonly reconciled: (ms: number) => void
  readonly log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: Record<string, unknown>) => void
}

export class Supervisor {
  readonly #options: SupervisorOptions
  readonly #modules = new Map<string, ModuleRecord>()
  /** Removed modules whose workloads are still going. */
  readonly #leaving = new Map<string, ModuleWriter>()
  readonly #removing = new Set<string>()
  #closed = false
  /** Everything is stopped for good: an edited file does not start its module again meanwhile. */
  #stopping = false
  /** Workloads that the last listing showed and nobody owned. */
  #strangers: ReadonlySet<string> = new Set()
  #desired: DesiredState = {
    modules: [],
    models: new Map(),
    aliases: new Map(),
    modelErrors: new Map(),
    disabled: new Set(),
    scales: new Map(),
  }

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  get desired(): DesiredState {
    return this.#desired
  }

  get records(): ReadonlyMap<string, ModuleRecord> {
    return this.#modules
  }

  /** Makes the writers match. Only what changed is touched. */
  apply(desired: DesiredState): void {
    this.#desired = desired
    const seen = new Set<string>()
    const own = Map.groupBy(desired.models.values(), ({ module }) => module)
    for (const module of desired.modules) {
      seen.add(module.id)
      const record = this.#modules.get(module.id) ?? {
        id: module.id,
        desired: module,
        writer: undefined,
        fingerprint: '',
      }
      this.#modules.set(module.id, record)
      record.desired = module
      if (module.manifest) this.#define(record, scaled(module.manifest, desired.scales.get(module.id)), own)
    }
    for (const record of [...this.#modules.values()]) if (!seen.has(record.id)) this.#remove(record)
    // One that has been enabled again is used at once, not only after the next listing.
    this.#attach()
  }

  #define(record: ModuleRecord, manifest: ModuleManifest, own: ReadonlyMap<string, readonly ModelDefinition[]>): void {
    const models = new Map((own.get(record.id) ?? []).map((model) => [model.name, model]))
    const definition = defineModule(this.#options.instance, manifest, models)
    const fingerprint = JSON.stringify([definition.specHash, manifest, [...models]])
    const wanted = this.#stopping || this.#desired.disabled.has(record.id) ? 'disabled' : 'enabled'
    // One that is still leaving under this id comes back: its replica ids are free only when its workloads are gone.
    record.writer ??= this.#leaving.get(record.id)
    this.#leaving.delete(record.id)
    const { writer } = record
    if (!writer) {
      const { effects, resources, observer, clock, random } = this.#options
      record.writer = new ModuleWriter({ definition, wanted, effects, resources, observer, clock, random })
      record.fingerprint = fingerprint
      record.writer.post({ type: 'tick' })
      return
    }
    if (record.fingerprint !== fingerprint) {
      record.fingerprint = fingerprint
      writer.post({ type: 'define', definition })
    }
    writer.post({ type: 'want', wanted })
  }

  #remove(record: ModuleRecord): void {
    this.#modules.delete(record.id)
    const { writer } = record
    if (!writer) return
    this.#leaving.set(record.id, writer)
    writer.post({ type: 'want', wanted: 'removed' })
    writer
      .until((state) => state.replicas.size === 0, AbortSignal.timeout(600_000))
      .catch(() => {})
      .then(() => {
        if (this.#closed || this.#leaving.get(record.id) !== writer || writer.state.wanted !== 'removed') return
        this.#leaving.delete(record.id)
        const empty = writer.state.replicas.size === 0
        writer.close()
        if (empty) return this.#forget(record.id)
      })
  }

  /** Its data stays: the folder may come back. */
  async #forget(module: string): Promise<void> {
    try {
      await this.#options.engine.forget(module, { data: false })
    } catch (error) {
      this.#options.log('warn', `could not remove the network of ${module}, which is gone`, { error: String(error) })
    }
  }

  /**
   * Lists what runs and mends every difference; resolves when that is done. A workload that nobody owns is acted on when
   * two listings in a row show it, as one may have ended since the first; `atOnce` is for the listing at the start.
   */
  async reconcile(options: { readonly atOnce: boolean } = { atOnce: false }): Promise<void> {
    const listedMs = this.#options.clock.now()
    const [observed] = await Promise.all([this.#options.engine.list(), this.#options.external?.refresh()])
    const byModule = Map.groupBy(observed, ({ module }) => module)
    for (const [id, writer] of [...this.#leaving, ...this.#writers()]) {
      // Containers of somebody else are in no listing of ours.
      const { external } = writer.state.definition
      writer.observe(external ? this.#external(id).map((each) => each.observed) : (byModule.get(id) ?? []), listedMs)
    }
    this.#attach()
    const work: Promise<void>[] = []
    const steps = this.#plan(observed)
    const seenBefore = this.#strangers
    this.#strangers = new Set(steps.map((step) => step.workload.id))
    for (const step of steps) {
      const { workload, cause } = step
      if (this.#removing.has(workload.id) || !(options.atOnce || seenBefore.has(workload.id))) continue
      const writer = this.#modules.get(step.module)?.writer
      if (step.action === 'adopt' && writer) work.push(this.#adopt(writer, workload))
      else work.push(this.#removeWorkload(workload, cause))
    }
    this.#options.reconciled(this.#options.clock.now() - listedMs)
    // Later ones are not waited for: one container that won't go must not hide what becomes of the others.
    if (options.atOnce) await Promise.all(work)
  }

  /** What is about to be done and why: to what runs and nobody owns, then module by module. Nothing is done by asking. */
  async plan(): Promise<readonly PlanStepView[]> {
    const strangers = this.#plan(await this.#options.engine.list()).map(planStepView)
    const moment = { nowMs: this.#options.clock.now(), random: this.#options.random() }
    const own = [...this.#leaving, ...this.#writers()].flatMap(([module, writer]) =>
      forecast(writer.state, moment).map((step) => ({ ...step, module })),
    )
    return [...strangers, ...own]
  }

  #plan(observed: readonly ObservedWorkload[]): readonly PlanStep[] {
    const known = new Map<string, KnownModule>()
    for (const [id, writer] of [...this.#leaving, ...this.#writers()]) {
      const { state } = writer
      const replicas = new Map([...state.replicas].map(([replica, { generation }]) => [replica, generation]))
      known.set(id, { id, wanted: state.wanted, specHash: state.definition.specHash, replicas })
    }
    const unreadable = new Set([...this.#modules.values()].filter(({ writer }) => !writer).map(({ id }) => id))
    return plan(known, observed, unreadable)
  }

  /** Takes into use what somebody else runs and nobody has yet. Not waited for: it may still be starting. */
  #attach(): void {
    for (const [id, writer] of this.#writers()) {
      if (!writer.state.definition.external || writer.state.wanted !== 'enabled') continue
      for (const { observed, workload } of this.#external(id)) {
        if (writer.state.replicas.has(observed.replica)) continue
        writer.adopt(observed, workload).then(
          () => this.#options.log('info', `uses ${observed.replica}, found by its labels`, { module: id }),
          (error: unknown) => this.#options.log('debug', `can't use ${observed.replica}: ${error}`, { module: id }),
        )
      }
    }
  }

  #external(id: string): readonly ExternalReplica[] {
    return this.#options.external?.replicasOf(id) ?? []
  }

  async #adopt(writer: ModuleWriter, observed: ObservedWorkload): Promise<void> {
    const { id, endpoint, container, gpus } = observed
    if (!endpoint) return
    try {
      await writer.adopt(observed, { id, endpoint, gpus, ...(container === undefined ? {} : { container }) })
      this.#options.log('info', `adopted ${observed.replica}, which was running already`, { module: observed.module })
    } catch (error) {
      if (this.#closed) return
      const reason = error instanceof Error ? error.message : String(error)
      await this.#removeWorkload(observed, `it could not be adopted: ${reason}`)
    }
  }

  async #removeWorkload(workload: ObservedWorkload, cause: string): Promise<void> {
    this.#removing.add(workload.id)
    try {
      this.#options.log('info', `removes ${workload.replica}: ${cause}`, {
        module: workload.module,
        workload: workload.id,
      })
      await this.#options.engine.stop(workload.id, { graceMs: 5_000 })
    } catch (error) {
      this.#options.log('warn', `could not remove ${workload.replica}; it is tried again`, { error: String(error) })
    } finally {
      this.#removing.delete(workload.id)
    }
  }

  #writers(): [string, ModuleWriter][] {
    return [...this.#modules.values()].flatMap(({ id, writer }) =>
      writer ? [[id, writer] as [string, ModuleWriter]] : [],
    )
  }

  /** Asks the health of every replica that is idle. */
  checkHealth(): void {
    for (const [, writer] of this.#writers()) writer.checkHealth()
  }

  /** After the engine came (back): what failed for want of it is tried again. */
  retry(): void {
    for (const [, writer] of this.#writers()) writer.post({ type: 'engine-back' })
  }

  /** Stops every replica, draining, for good; resolves with the modules that ran when they are gone. */
  async stopAll(signal: AbortSignal): Promise<string[]> {
    this.#stopping = true
    const ran: string[] = []
    const gone: Promise<void>[] = []
    for (const [id, writer] of [...this.#writers(), ...this.#leaving]) {
      if (writer.state.replicas.size > 0 && !writer.state.definition.external) ran.push(id)
      writer.post({ type: 'want', wanted: 'disabled' })
      gone.push(writer.until((state) => state.replicas.size === 0, signal))
    }
    await Promise.all(gone)
    const rest = await this.#options.engine.list()
    await Promise.all(rest.map((workload) => this.#removeWorkload(workload, 'everything is stopped')))
    return [...new Set(ran)]
  }

  /** Lets go; workloads that outlive the orchestrator go on. */
  close(): void {
    this.#closed = true
    for (const [, writer] of [...this.#writers(), ...this.#leaving]) writer.close()
  }
}

function scaled(manifest: ModuleManifest, scale: Scale | undefined): ModuleManifest {
  return scale === undefined ? manifest : { ...manifest, scale: { ...manifest.scale, ...scale } }
}
