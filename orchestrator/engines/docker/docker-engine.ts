import { existsSync } from 'node:fs'
import { BerthError } from '../../domain/errors.ts'
import type {
  Engine,
  EngineCapabilities,
  EnvironmentStore,
  ForeignWorkload,
  LogLine,
  LogOptions,
  ObservedWorkload,
  OnProgress,
  Prepared,
  Workload,
  WorkloadEvent,
} from '../engine.ts'
import { environmentKey, indexOptions } from '../environment-key.ts'
import { environmentGpu, givenDevices } from '../gpu-devices.ts'
import { labels } from '../labels.ts'
import type { ProbeResult } from '../select.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import { moduleContext } from './build-context.ts'
import { connectionFrom } from './connection.ts'
import { Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import type { ImageFacts } from './images.ts'
import { containerLogs } from './logs.ts'
import type { DockerEngineOptions } from './options.ts'
import { openSession, type Session } from './session.ts'
import { watchWorkloads } from './watch.ts'
import type { PreparedParts } from './workloads.ts'

/** The engine port on a Docker daemon: what is asked for here, the parts in session.ts do. */
export interface DockerEngine extends Engine {
  /** What an image says of itself; pulled when it is not there. Rejects with IMAGE_UNAVAILABLE. */
  inspectImage(reference: string, signal: AbortSignal, onProgress?: OnProgress): Promise<ImageFacts>
}

export type { ImageFacts } from './images.ts'
export type { DockerEngineOptions } from './options.ts'

export function createDockerEngine(options: DockerEngineOptions): DockerEngine {
  return new Controller(options)
}

/** Is there a daemon that this user may use? Never rejects. */
export async function probeDocker(env: Readonly<Record<string, string | undefined>>): Promise<ProbeResult> {
  try {
    const connection = connectionFrom(env)
    if (connection.kind === 'unix' && !existsSync(connection.socketPath)) {
      return { kind: 'absent', reason: `there is no Docker socket at ${connection.socketPath}` }
    }
    const daemon = await Daemon.open(connection, AbortSignal.timeout(10_000))
    daemon.close()
    return { kind: 'answers', description: `version ${daemon.version.engine} at ${daemon.address}` }
  } catch (error) {
    return probeFailure(error)
  }
}

function probeFailure(error: unknown): ProbeResult {
  const reason = error instanceof Error ? error.message : String(error)
  const { code } = (error instanceof Error ? (error.cause ?? {}) : {}) as { readonly code?: unknown }
  if (code === 'EACCES' || code === 'EPERM') {
    const remedy = error instanceof BerthError ? String(error.details.remedy) : 'let this user use the socket'
    return { kind: 'denied', reason, remedy }
  }
  return code === 'ENOENT' || code === 'ECONNREFUSED' ? { kind: 'absent', reason } : { kind: 'broken', reason }
}

const nothingKnown: EngineCapabilities = {
  isolation: 'container',
  adopts: true,
  images: true,
  networkPolicy: true,
  gpus: [],
  memoryBytes: Number.POSITIVE_INFINITY,
  description: 'Docker, not connected',
  weaknesses: [],
}

/** Prepared workloads whose parts are remembered, so that a start needs no look-ups. */
const mostRemembered = 256

class Controller implements DockerEngine {
  readonly name = 'docker'
  readonly environments: EnvironmentStore = {
    list: () => this.#guard(() => this.#session.environments.list()),
    prune: (keep) =>
      this.#guard(async () => {
        const { environments, runner } = this.#session
        await runner.prune()
        return await environments.prune(keep)
      }),
  }
  readonly #options: DockerEngineOptions
  readonly #prepared = new Map<string, PreparedParts>()
  readonly #closed = new AbortController()
  #opened: Session | undefined
  #opening: Promise<Session> | undefined

  constructor(options: DockerEngineOptions) {
    this.#options = options
  }

  get capabilities(): EngineCapabilities {
    return this.#opened?.capabilities ?? nothingKnown
  }

  async connect(signal: AbortSignal): Promise<void> {
    if (this.#opened !== undefined) {
      await this.ping(signal)
      this.#opened.networks.recheck()
      return
    }
    this.#opening ??= openSession(this.#options, signal).finally(() => {
      this.#opening = undefined
    })
    this.#opened = await this.#guard(() => this.#opening as Promise<Session>)
  }

  ping(signal: AbortSignal): Promise<void> {
    return this.#guard(() => this.#session.daemon.ping(signal))
  }

  prepare(spec: WorkloadSpec, signal: AbortSignal, onProgress: OnProgress): Promise<Prepared> {
    return this.#guard(async () => (await this.#prepare(spec, signal, onProgress)).prepared)
  }

  start(spec: WorkloadSpec, signal: AbortSignal): Promise<Workload> {
    return this.#guard(async () => {
      const parts = (await this.#remembered(spec, signal)) ?? (await this.#prepare(spec, signal, () => undefined)).parts
      try {
        const gpus = givenDevices(spec, this.capabilities.gpus)
        return await this.#session.workloads.start(spec, { ...parts, gpus }, signal)
      } catch (error) {
        // What it was made of may be gone: it is looked for anew the next time.
        this.#prepared.delete(spec.specHash)
        throw error
      }
    })
  }

  stop(id: string, { graceMs }: { readonly graceMs: number }): Promise<void> {
    return this.#guard(() => this.#session.workloads.stop(id, graceMs))
  }

  list(): Promise<readonly ObservedWorkload[]> {
    return this.#guard(() => this.#session.workloads.list())
  }

  discover(): Promise<readonly ForeignWorkload[]> {
    return this.#guard(() => this.#session.foreign.list())
  }

  async *watch(signal: AbortSignal): AsyncIterable<WorkloadEvent> {
    const { daemon } = this.#session
    const warn = (message: string): void => this.#options.logger?.('warn', message)
    const both = AbortSignal.any([signal, this.#closed.signal])
    yield* watchWorkloads({ daemon, instance: this.#options.instance, silenceMs: 30_000, warn }, both)
  }

  async *logs(id: string, options: LogOptions): AsyncIterable<LogLine> {
    if (!/^[\w.-]+$/.test(id)) return
    const signal = AbortSignal.any([options.signal, this.#closed.signal])
    yield* containerLogs(this.#session.daemon, id, { ...options, signal })
  }

  forget(module: string, options: { readonly data: boolean }): Promise<void> {
    return this.#guard(() => this.#session.forget(module, options))
  }

  removeInstalls(): Promise<readonly string[]> {
    return this.#guard(() => this.#session.removeInstalls())
  }

  async inspectImage(
    reference: string,
    signal: AbortSignal,
    onProgress: OnProgress = () => undefined,
  ): Promise<ImageFacts> {
    return await this.#guard(async () => (await this.#session.images.ensure(reference, signal, onProgress)).image)
  }

  async close(): Promise<void> {
    this.#closed.abort(new BerthError('SHUTTING_DOWN', 'Berth is shutting down'))
    const session = this.#opened
    this.#opened = undefined
    await session?.close()
  }

  async #prepare(
    spec: WorkloadSpec,
    signal: AbortSignal,
    report: OnProgress,
  ): Promise<{ readonly prepared: Prepared; readonly parts: PreparedParts }> {
    signal.throwIfAborted()
    const session = this.#session
    const gpu = environmentGpu(spec, this.capabilities.gpus)
    if (gpu === 'NO_GPU' && spec.gpu !== undefined && !spec.gpu.optional) {
      this.#options.logger?.('warn', `module ${spec.module} asks for a GPU, Docker has none: it runs on the CPU`)
    }
    // All at once, and the network too: the start then finds it there.
    const [base, runner] = await Promise.all([
      this.#base(spec, session, signal, report),
      spec.base.kind === 'protocol' ? undefined : session.runner.ensure(signal, report),
      session.networks.ofModule(spec.module, spec.network, signal),
    ])
    const cached = base.cached && runner?.cached !== false
    const parts = { imageId: base.image.id }
    if (runner === undefined) {
      const imageUser = await session.users.of(base.image, signal)
      return this.#remember(spec, { cached }, { ...parts, imageUser })
    }
    const withRunner = { ...parts, runnerVolume: runner.name }
    if (spec.requirements.empty && spec.python === undefined) return this.#remember(spec, { cached }, withRunner)

    const key = environmentKey({
      requirements: spec.requirements.hash,
      base: base.image.id,
      python: spec.python,
      architecture: session.daemon.version.architecture,
      index: indexOptions(this.#options.env),
      gpu,
    })
    const job = { spec, key, imageId: base.image.id, runner, gpu }
    const made = await session.environments.ensure(job, signal, report)
    const prepared = { environment: made.environment, cached: cached && made.cached }
    return this.#remember(spec, prepared, { ...withRunner, environmentKey: key })
  }

  #base(spec: WorkloadSpec, session: Session, signal: AbortSignal, report: OnProgress) {
    const { base, module, folder = '' } = spec
    switch (base.kind) {
      case 'default':
        return session.images.ensure(session.baseImage, signal, report)
      case 'dockerfile':
        return this.#built(module, folder, base, session, signal, report)
      default:
        return session.images.ensure(base.image, signal, report)
    }
  }

  async #built(
    module: string,
    folder: string,
    base: { readonly dockerfile: string; readonly context: string },
    session: Session,
    signal: AbortSignal,
    report: OnProgress,
  ) {
    const { tag, dockerfile, archive } = await moduleContext(module, folder, base)
    const marks = { [labels.instance]: this.#options.instance, [labels.module]: module, [labels.role]: 'base' }
    return await session.images.ensureBuilt(
      tag,
      () => ({ context: archive(), dockerfile, labels: marks }),
      signal,
      report,
    )
  }

  /** Volumes are easily pruned while no container uses them: a start on an environment that is gone would never succeed. */
  async #remembered(spec: WorkloadSpec, signal: AbortSignal): Promise<PreparedParts | undefined> {
    const parts = this.#prepared.get(spec.specHash)
    const key = parts?.environmentKey
    return key === undefined || (await this.#session.environments.isThere(key, signal)) ? parts : undefined
  }

  #remember(spec: WorkloadSpec, prepared: Prepared, parts: PreparedParts) {
    this.#prepared.delete(spec.specHash)
    this.#prepared.set(spec.specHash, parts)
    const [oldest] = this.#prepared.keys()
    if (this.#prepared.size > mostRemembered && oldest !== undefined) this.#prepared.delete(oldest)
    return { prepared, parts }
  }

  get #session(): Session {
    if (this.#opened !== undefined) return this.#opened
    throw new BerthError('ENGINE_UNAVAILABLE', 'Docker is not connected', {
      remedy: 'see whether the daemon runs (`docker info`)',
    })
  }

  /** Nothing of the daemon's leaves but errors of Berth's own. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      if (!isRefusal(error)) throw error
      throw new BerthError('INTERNAL', `Docker refuses: ${error.message}`, { status: error.status }, { cause: error })
    }
  }
}
