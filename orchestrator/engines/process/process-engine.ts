import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { BerthError } from '../../domain/errors.ts'
import type {
  Endpoint,
  Engine,
  EngineCapabilities,
  EnvironmentStore,
  LogLine,
  LogOptions,
  ObservedWorkload,
  OnProgress,
  Prepared,
  Workload,
  WorkloadEvent,
  WorkloadExit,
} from '../engine.ts'
import { EventFeed } from '../event-feed.ts'
import { givenDevices } from '../gpu-devices.ts'
import { LogBuffer } from '../log-buffer.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import { assertSupported, processCapabilities } from './capabilities.ts'
import { ChildGroup } from './child-group.ts'
import { Environments } from './environments.ts'
import { findGpus } from './gpus.ts'
import { endRecordedGroups, forgetGroup, recordGroup } from './group-records.ts'
import { hostVariables } from './host-environment.ts'
import { type Host, ownMarks, runnerLaunch } from './launch.ts'
import { makeRunDirectory, moduleData, processPaths, socketFiles, socketPath } from './paths.ts'
import { killFamily } from './process-table.ts'
import { assertFolder, Provisioner } from './provisioner.ts'

/**
 * The embedded engine: every module is a runner as a child process on a Unix socket, with an environment of its own and
 * no isolation. Its workloads end when this process does; it adopts nothing, and ends what a killed one has left.
 */
export interface ProcessEngineOptions {
  readonly instance: string
  readonly dataDirectory: string
  /** Folder that holds `module-runner/` and `node_modules/`. */
  readonly repositoryRoot: string
  /** The orchestrator's own variables; modules get an allow-list of them. */
  readonly env: Readonly<Record<string, string | undefined>>
  readonly logger?: ProcessEngineLogger
}

export interface ProcessEngineLogger {
  info(message: string): void
  warn(message: string): void
}

export function createProcessEngine(options: ProcessEngineOptions): Engine {
  return new ProcessEngine(options)
}

/** Milliseconds of SIGTERM where nobody said how long: a replaced generation, and `close`. */
const defaultGraceMs = 5_000

interface Running {
  readonly id: string
  readonly spec: WorkloadSpec
  readonly group: ChildGroup
  readonly endpoint: Endpoint
  readonly logs: LogBuffer
  readonly gpus: readonly string[]
  readonly environment: string | undefined
  exit: WorkloadExit | undefined
  /** All of it is gone, and nothing of it left on the disk. */
  ended: Promise<void>
}

class ProcessEngine implements Engine {
  readonly name = 'process'
  readonly environments: EnvironmentStore
  readonly #options: ProcessEngineOptions
  readonly #host: Host
  readonly #environments: Environments
  readonly #provisioner: Provisioner
  readonly #workloads = new Map<string, Running>()
  readonly #events = new EventFeed()
  readonly #turns = new Map<string, Promise<unknown>>()
  #capabilities = processCapabilities([])
  #connecting: Promise<void> | undefined
  #runDirectory = ''
  #closed = false

  constructor(options: ProcessEngineOptions) {
    this.#options = options
    const paths = processPaths(options.dataDirectory)
    this.#host = { env: options.env, data: options.dataDirectory, paths, repositoryRoot: options.repositoryRoot }
    this.#environments = new Environments(paths.environments, () => this.#environmentsInUse())
    this.environments = this.#environments
    this.#provisioner = new Provisioner(this.#host, this.#environments, () => this.#capabilities.gpus)
  }

  get capabilities(): EngineCapabilities {
    return this.#capabilities
  }

  async connect(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    this.#connecting ??= this.#open().catch((cause) => {
      this.#connecting = undefined
      const message = cause instanceof Error ? cause.message : String(cause)
      throw new BerthError(
        'ENGINE_UNAVAILABLE',
        `The embedded engine can't use its data folder: ${message}`,
        { file: this.#options.dataDirectory, remedy: 'make the folder writable, or name another one with `data:`' },
        { cause },
      )
    })
    await this.#connecting
  }

  async ping(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    if (this.#closed) throw new BerthError('ENGINE_UNAVAILABLE', 'The embedded engine was closed')
  }

  async prepare(spec: WorkloadSpec, signal: AbortSignal, onProgress: OnProgress): Promise<Prepared> {
    await this.ping(signal)
    assertSupported(spec.module, spec.base)
    return await this.#provisioner.prepare(spec, signal, onProgress)
  }

  start(spec: WorkloadSpec, signal: AbortSignal): Promise<Workload> {
    return this.#inTurn(spec.replica, async () => {
      await this.ping(signal)
      assertSupported(spec.module, spec.base)
      const id = `${spec.instance}.${spec.replica}.${spec.generation}`
      const present = this.#workloads.get(id)
      if (present !== undefined && present.exit === undefined && present.spec.specHash === spec.specHash) {
        return toWorkload(present)
      }
      for (const other of this.#workloads.values()) {
        if (other.spec.replica === spec.replica) await this.#end(other, defaultGraceMs)
      }
      const running = await this.#launch(id, spec)
      if (signal.aborted || this.#closed) {
        await this.#end(running, 0)
        signal.throwIfAborted()
        throw new BerthError('SHUTTING_DOWN', 'Berth is shutting down')
      }
      this.#events.emit({ kind: 'changed', id })
      return toWorkload(running)
    })
  }

  async stop(id: string, options: { readonly graceMs: number }): Promise<void> {
    const running = this.#workloads.get(id)
    if (running === undefined) return
    await this.#inTurn(running.spec.replica, () => this.#end(running, options.graceMs))
  }

  async list(): Promise<readonly ObservedWorkload[]> {
    return [...this.#workloads.values()].map((running) => ({
      id: running.id,
      module: running.spec.module,
      replica: running.spec.replica,
      generation: running.spec.generation,
      specHash: running.spec.specHash,
      gpus: running.gpus,
      ...(running.exit === undefined
        ? { state: 'running' as const, endpoint: running.endpoint }
        : { state: 'exited' as const, exit: running.exit }),
    }))
  }

  watch(signal: AbortSignal): AsyncIterable<WorkloadEvent> {
    return this.#events.watch(signal)
  }

  async *logs(id: string, options: LogOptions): AsyncIterable<LogLine> {
    const running = this.#workloads.get(id)
    if (running !== undefined) yield* running.logs.read(options)
  }

  async forget(module: string, { data }: { readonly data: boolean }): Promise<void> {
    if (data) await rm(moduleData(this.#host.paths, module), { recursive: true, force: true, maxRetries: 3 })
  }

  /** Ends every workload and install: nothing of this engine outlives it. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#environments.close()
    await Promise.all(
      [...this.#workloads.values()].map((running) => this.stop(running.id, { graceMs: defaultGraceMs })),
    )
    await Promise.allSettled(this.#turns.values())
    if (this.#runDirectory !== '') await rm(this.#runDirectory, { recursive: true, force: true })
  }

  async #open(): Promise<void> {
    const { paths, env } = this.#host
    const { dataDirectory, instance, logger } = this.#options
    const folders = [paths.downloads, paths.models, paths.modules, paths.compiled]
    await Promise.all(folders.map((folder) => mkdir(folder, { recursive: true })))
    this.#runDirectory = await makeRunDirectory(dataDirectory, env.XDG_RUNTIME_DIR)
    const ended =
      process.platform === 'linux'
        ? await killFamily({ variables: ownMarks(instance, dataDirectory) })
        : await endRecordedGroups(this.#runDirectory, hostVariables(env))
    if (ended > 0) logger?.warn(`Ended ${ended} process(es) that an orchestrator killed earlier had left behind.`)
    for (const name of await readdir(this.#runDirectory)) await rm(join(this.#runDirectory, name), { force: true })
    await this.#environments.open()
    this.#capabilities = processCapabilities(await findGpus(hostVariables(env)))
    logger?.warn('The embedded engine runs modules without isolation: use it for modules that you trust.')
  }

  async #launch(id: string, spec: WorkloadSpec): Promise<Running> {
    await assertFolder(spec)
    const plan = await this.#provisioner.plan(spec)
    const marker = plan === undefined ? undefined : await this.#environments.marker(plan.key)
    if (plan !== undefined && marker === undefined) {
      const message = `The environment of module ${spec.module} is not there: it was not prepared, or it was removed since`
      throw new BerthError('REQUIREMENTS_FAILED', message, {
        module: spec.module,
        remedy: 'restart the module: it is then prepared again',
      })
    }
    const gpus = givenDevices(spec, this.#capabilities.gpus).map(({ id }) => id)
    const data = moduleData(this.#host.paths, spec.module)
    await mkdir(join(data, 'home'), { recursive: true })
    const socket = socketPath(this.#runDirectory, spec.replica, spec.generation)
    await removeSocket(socket)
    const environment =
      plan === undefined || marker === undefined ? undefined : { folder: this.#environments.folderOf(plan.key), marker }
    const python = plan === undefined ? await this.#provisioner.python(spec.python) : plan.python
    const launch = runnerLaunch(this.#host, { spec, socket, data, environment, python, gpus })
    const logs = new LogBuffer()
    const onLine = (stream: 'stdout' | 'stderr', text: string): void => {
      logs.append({ stream, text, timeMs: Date.now() })
    }
    const group = await ChildGroup.start({ ...launch, onLine }).catch((cause: unknown) => {
      const reason = cause instanceof Error ? cause.message : String(cause)
      const message = `The process of module ${spec.module} can't be started: ${reason}`
      throw new BerthError('ENGINE_UNAVAILABLE', message, { module: spec.module }, { cause })
    })
    const endpoint = { kind: 'unix' as const, path: socket }
    const running: Running = {
      id,
      spec,
      group,
      endpoint,
      logs,
      gpus,
      environment: plan?.key,
      exit: undefined,
      ended: group.gone,
    }
    this.#workloads.set(id, running)
    if (process.platform !== 'linux') await recordGroup(this.#runDirectory, group.pid)
    running.ended = this.#attend(running, socket)
    return running
  }

  /** Sees the workload's end, whoever wanted it. */
  async #attend(running: Running, socket: string): Promise<void> {
    running.exit = await running.group.exited
    this.#events.emit({ kind: 'changed', id: running.id })
    await running.group.gone
    running.logs.end()
    await removeSocket(socket)
    if (process.platform !== 'linux') await forgetGroup(this.#runDirectory, running.group.pid)
  }

  async #end(running: Running, graceMs: number): Promise<void> {
    await running.group.end(graceMs)
    await running.ended
    if (this.#workloads.delete(running.id)) this.#events.emit({ kind: 'changed', id: running.id })
  }

  #environmentsInUse(): ReadonlySet<string> {
    return new Set([...this.#workloads.values()].flatMap(({ environment }) => environment ?? []))
  }

  /** One change at a time for each replica. */
  #inTurn<T>(replica: string, change: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(replica) ?? Promise.resolve()).then(change, change)
    this.#turns.set(replica, turn)
    const forget = (): void => {
      if (this.#turns.get(replica) === turn) this.#turns.delete(replica)
    }
    turn.then(forget, forget)
    return turn
  }
}

async function removeSocket(socket: string): Promise<void> {
  await Promise.all(socketFiles(socket).map((file) => rm(file, { force: true })))
}

function toWorkload(running: Running): Workload {
  return { id: running.id, endpoint: running.endpoint, gpus: running.gpus }
}
