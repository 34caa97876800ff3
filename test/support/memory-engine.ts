import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BerthError } from '../../orchestrator/domain/errors.ts'
import type {
  Engine,
  EngineCapabilities,
  EnvironmentInfo,
  EnvironmentStore,
  ForeignWorkload,
  LogLine,
  LogOptions,
  ObservedWorkload,
  OnProgress,
  Prepared,
  PrepareProgress,
  Workload,
  WorkloadEvent,
  WorkloadExit,
} from '../../orchestrator/engines/engine.ts'
import { environmentKey } from '../../orchestrator/engines/environment-key.ts'
import { EventFeed } from '../../orchestrator/engines/event-feed.ts'
import { labels } from '../../orchestrator/engines/labels.ts'
import { LogBuffer } from '../../orchestrator/engines/log-buffer.ts'
import { SharedWork, untilAborted } from '../../orchestrator/engines/shared-work.ts'
import type { WorkloadSpec } from '../../orchestrator/engines/workload-spec.ts'
import { FakeRunner, type RunnerScript } from './fake-runner.ts'

/**
 * The engine port in memory, for tests of decisions: passes the same contract as the real ones, and a test decides what
 * each module does. A `MemoryWorld` is the machine; engine objects come and go on it, so restarts can be tested.
 */
export interface ModuleScript {
  /** The install of its environment: rejects to fail it with the lines that were reported. */
  readonly install?: (line: (text: string) => void, signal: AbortSignal) => Promise<void>
  /** Awaited before the process starts: rejects to fail the start. */
  readonly start?: (signal: AbortSignal) => Promise<void>
  /** SIGTERM changes nothing. */
  readonly ignoresSigterm?: boolean
  readonly runner?: RunnerScript | ((log: (text: string) => void) => RunnerScript)
}

interface MemoryWorkload {
  readonly spec: WorkloadSpec
  readonly id: string
  readonly runner: FakeRunner
  readonly script: ModuleScript
  readonly logs: LogBuffer
  readonly environment: string | undefined
  exit: WorkloadExit | undefined
}

/** A container of somebody else: `labels` as compose would set them, `runner` as in a ModuleScript. */
export interface ForeignScript {
  readonly container: string
  readonly labels: Readonly<Record<string, string>>
  readonly token?: string
  readonly group?: string
  readonly createdMs?: number
  readonly runner?: RunnerScript
}

export class MemoryWorld {
  readonly workloads = new Map<string, MemoryWorkload>()
  /** By id, each with its runner while it runs. */
  readonly foreign = new Map<string, { readonly seen: ForeignWorkload; readonly runner: FakeRunner }>()
  readonly environments = new Map<string, EnvironmentInfo>()
  readonly events = new EventFeed()
  /** How often each module was installed and started, by module. */
  readonly installs = new Map<string, number>()
  readonly starts = new Map<string, number>()
  readonly forgotten: string[] = []
  readonly script: (spec: WorkloadSpec) => ModuleScript
  /** Set: the engine can't be reached. */
  unreachable = false
  #folder: Promise<string> | undefined
  #sockets = 0
  #foreigners = 0

  constructor(script: (spec: WorkloadSpec) => ModuleScript = () => ({})) {
    this.script = script
  }

  async newSocket(): Promise<string> {
    this.#folder ??= mkdtemp(join(tmpdir(), 'berth-memory-'))
    this.#sockets += 1
    const name = `${this.#sockets}.sock`
    return join(await this.#folder, name)
  }

  /** Somebody else starts a container; answers its id. */
  async runForeign(wanted: ForeignScript): Promise<string> {
    this.#foreigners += 1
    const id = `foreign-${this.#foreigners}`
    const { container, labels, token, group, createdMs = Date.now(), runner: script = {} } = wanted
    const own = token === undefined ? {} : { token }
    const runner = await FakeRunner.listen({ socket: await this.newSocket(), script, ...own })
    const { endpoint } = runner
    const seen = { id, container, image: 'memory', labels, createdMs, state: 'running', endpoint, ...own } as const
    this.foreign.set(id, { seen: { ...seen, ...(group === undefined ? {} : { group }) }, runner })
    this.events.emit({ kind: 'changed', id })
    return id
  }

  /** Its process ends; it is listed until it is removed. */
  async endForeign(id: string): Promise<void> {
    const found = this.foreign.get(id)
    if (found === undefined) return
    const { endpoint: _, ...rest } = found.seen
    this.foreign.set(id, { ...found, seen: { ...rest, state: 'exited' } })
    await found.runner.crash()
    this.events.emit({ kind: 'changed', id })
  }

  async removeForeign(id: string): Promise<void> {
    await this.endForeign(id)
    this.foreign.delete(id)
    this.events.emit({ kind: 'changed', id })
  }

  /** The process of a workload ends, whoever wanted it. */
  async end(id: string, exit: WorkloadExit): Promise<void> {
    const workload = this.workloads.get(id)
    if (workload === undefined || workload.exit !== undefined) return
    workload.exit = exit
    await (exit.signal === undefined ? workload.runner.terminate() : workload.runner.crash())
    workload.logs.end()
    this.events.emit({ kind: 'changed', id })
  }

  async dispose(): Promise<void> {
    for (const id of this.workloads.keys()) await this.end(id, { signal: 'SIGKILL' })
    for (const id of this.foreign.keys()) await this.endForeign(id)
    if (this.#folder !== undefined) await rm(await this.#folder, { recursive: true, force: true })
  }
}

export interface MemoryEngineOptions {
  readonly instance: string
  readonly world: MemoryWorld
  readonly capabilities?: Partial<EngineCapabilities>
}

export class MemoryEngine implements Engine {
  readonly name = 'memory'
  readonly capabilities: EngineCapabilities
  readonly environments: EnvironmentStore
  readonly world: MemoryWorld
  readonly #instance: string
  readonly #installing = new SharedWork<PrepareProgress, EnvironmentInfo>()
  readonly #turns = new Map<string, Promise<unknown>>()

  constructor(options: MemoryEngineOptions) {
    this.#instance = options.instance
    this.world = options.world
    this.capabilities = {
      isolation: 'container',
      adopts: true,
      images: true,
      networkPolicy: true,
      gpus: [],
      memoryBytes: Number.POSITIVE_INFINITY,
      description: 'memory',
      weaknesses: [],
      ...options.capabilities,
    }
    this.environments = {
      list: async () => [...this.world.environments.values()],
      prune: async (keep) => this.#prune(keep),
    }
  }

  async connect(signal: AbortSignal): Promise<void> {
    await this.ping(signal)
  }

  async ping(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.world.unreachable) throw new BerthError('ENGINE_UNAVAILABLE', 'The engine in memory was made unreachable')
  }

  async prepare(spec: WorkloadSpec, signal: AbortSignal, onProgress: OnProgress): Promise<Prepared> {
    await this.ping(signal)
    this.#supports(spec)
    const key = environmentOf(spec)
    if (key === undefined) return { cached: true }
    const present = this.world.environments.get(key)
    if (present !== undefined) return { environment: present, cached: true }
    const environment = await this.#installing.run(key, signal, onProgress, (cancelled, report) =>
      this.#install(spec, key, cancelled, report),
    )
    return { environment, cached: false }
  }

  start(spec: WorkloadSpec, signal: AbortSignal): Promise<Workload> {
    return this.#inTurn(spec.replica, async () => {
      await this.ping(signal)
      this.#supports(spec)
      const id = `${this.#instance}-${spec.replica}-${spec.generation}`
      const present = this.world.workloads.get(id)
      if (present !== undefined && present.exit === undefined && present.spec.specHash === spec.specHash) {
        return view(present)
      }
      for (const other of this.#own()) if (other.spec.replica === spec.replica) await this.#end(other, 0)
      const script = this.world.script(spec)
      await untilAborted(script.start?.(signal) ?? Promise.resolve(), signal)
      if (spec.folder !== undefined && !existsSync(spec.folder)) {
        throw new BerthError('MODULE_NOT_FOUND', `The folder of module ${spec.module} is not there`)
      }
      const logs = new LogBuffer()
      const log = (text: string): void => logs.append({ stream: 'stdout', text, timeMs: Date.now() })
      const runner = await FakeRunner.listen({
        socket: await this.world.newSocket(),
        token: spec.token,
        script: typeof script.runner === 'function' ? script.runner(log) : (script.runner ?? {}),
        onLog: log,
      })
      const workload: MemoryWorkload = {
        spec,
        id,
        runner,
        script,
        logs,
        environment: environmentOf(spec),
        exit: undefined,
      }
      this.world.workloads.set(id, workload)
      count(this.world.starts, spec.module)
      this.world.events.emit({ kind: 'changed', id })
      return view(workload)
    })
  }

  async stop(id: string, options: { readonly graceMs: number }): Promise<void> {
    const workload = this.#own().find((each) => each.id === id)
    if (workload === undefined) return
    await this.#inTurn(workload.spec.replica, () => this.#end(workload, options.graceMs))
  }

  async list(): Promise<readonly ObservedWorkload[]> {
    await this.ping(AbortSignal.timeout(1_000))
    return this.#own().map((workload) => ({
      id: workload.id,
      module: workload.spec.module,
      replica: workload.spec.replica,
      generation: workload.spec.generation,
      specHash: workload.spec.specHash,
      state: workload.exit === undefined ? 'running' : 'exited',
      gpus: workload.spec.devices,
      ...(workload.exit === undefined ? { endpoint: workload.runner.endpoint } : { exit: workload.exit }),
    }))
  }

  async discover(): Promise<readonly ForeignWorkload[]> {
    await this.ping(AbortSignal.timeout(1_000))
    const meant = ({ seen }: { readonly seen: ForeignWorkload }) => seen.labels[labels.for] ?? this.#instance
    return [...this.world.foreign.values()].filter((each) => meant(each) === this.#instance).map(({ seen }) => seen)
  }

  watch(signal: AbortSignal): AsyncIterable<WorkloadEvent> {
    return this.world.events.watch(signal)
  }

  async *logs(id: string, options: LogOptions): AsyncIterable<LogLine> {
    const workload = this.#own().find((each) => each.id === id)
    if (workload !== undefined) yield* workload.logs.read(options)
  }

  async forget(module: string, { data }: { readonly data: boolean }): Promise<void> {
    if (data) this.world.forgotten.push(module)
  }

  async close(): Promise<void> {
    await this.#installing.close(new BerthError('SHUTTING_DOWN', 'The engine was closed'))
  }

  /** The runner double of a running workload, by replica: what a test scripts and breaks. */
  runner(replica: string): FakeRunner {
    const workload = this.#own().find((each) => each.spec.replica === replica && each.exit === undefined)
    if (workload === undefined) throw new Error(`no workload runs as ${replica}`)
    return workload.runner
  }

  #own(): MemoryWorkload[] {
    return [...this.world.workloads.values()].filter((workload) => workload.spec.instance === this.#instance)
  }

  #supports(spec: WorkloadSpec): void {
    if (this.capabilities.images || spec.base.kind === 'default') return
    throw new BerthError('ENGINE_UNSUPPORTED', `The engine runs no images, and module ${spec.module} needs one`)
  }

  async #install(
    spec: WorkloadSpec,
    key: string,
    signal: AbortSignal,
    report: (progress: PrepareProgress) => void,
  ): Promise<EnvironmentInfo> {
    const lines: string[] = []
    const onLine = (line: string): void => {
      lines.push(line)
      report({ phase: 'environment', message: line, line, environmentKey: key })
    }
    count(this.world.installs, spec.module)
    try {
      await untilAborted(this.world.script(spec).install?.(onLine, signal) ?? Promise.resolve(), signal)
    } catch (cause) {
      signal.throwIfAborted()
      const message = `The requirements of module ${spec.module} can not be installed`
      throw new BerthError('REQUIREMENTS_FAILED', message, { module: spec.module, lines }, { cause })
    }
    const environment: EnvironmentInfo = { key, bytes: 0, createdAt: new Date().toISOString() }
    this.world.environments.set(key, environment)
    return environment
  }

  #prune(keep: ReadonlySet<string>): readonly EnvironmentInfo[] {
    const used = new Set([...this.world.workloads.values()].map((workload) => workload.environment))
    const removed = [...this.world.environments.values()].filter(({ key }) => !keep.has(key) && !used.has(key))
    for (const { key } of removed) this.world.environments.delete(key)
    return removed
  }

  async #end(workload: MemoryWorkload, graceMs: number): Promise<void> {
    if (!this.world.workloads.has(workload.id)) return
    // A runner that drains for longer than the grace is killed; in memory there is no clock to wait for.
    const stubborn = workload.script.ignoresSigterm === true || workload.runner.inflight > 0 || graceMs === 0
    await this.world.end(workload.id, stubborn ? { signal: 'SIGKILL' } : { code: 0 })
    this.world.workloads.delete(workload.id)
    this.world.events.emit({ kind: 'changed', id: workload.id })
  }

  /** One change at a time for each replica. */
  #inTurn<T>(replica: string, change: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(replica) ?? Promise.resolve()).then(change, change)
    this.#turns.set(replica, turn)
    return turn
  }
}

function environmentOf(spec: WorkloadSpec): string | undefined {
  if (spec.requirements.empty) return undefined
  return environmentKey({
    requirements: spec.requirements.hash,
    base: 'memory',
    python: spec.python,
    architecture: 'memory',
    index: {},
    gpu: 'NO_GPU',
  })
}

function view(workload: MemoryWorkload): Workload {
  return { id: workload.id, endpoint: workload.runner.endpoint, gpus: workload.spec.devices }
}

function count(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1)
}
