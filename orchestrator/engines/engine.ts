import type { BerthError } from '../domain/errors.ts'
import type { ProgressView } from '../domain/views.ts'
import type { WorkloadSpec } from './workload-spec.ts'

/**
 * The port to whatever runs containers. One contract suite (test/contract/engine.ts) runs against every adapter.
 * A method that takes a signal rejects soon after it aborts, and leaves nothing behind that anyone would use.
 */
export interface Engine {
  readonly name: 'docker' | 'swarm' | 'kubernetes' | 'process' | 'memory'
  /** What this engine can do: data, complete after `connect`. */
  readonly capabilities: EngineCapabilities
  readonly environments: EnvironmentStore

  /** Reaches the engine, or rejects with ENGINE_UNAVAILABLE saying what to do. Blocks until it answers. */
  connect(signal: AbortSignal): Promise<void>
  /** Cheap: rejects with ENGINE_UNAVAILABLE while the engine can't be reached. */
  ping(signal: AbortSignal): Promise<void>
  /**
   * Makes the image and the environment of a workload present. Idempotent; calls for one environment key at the same
   * time install once. Rejects with IMAGE_UNAVAILABLE, REQUIREMENTS_FAILED or ENGINE_UNAVAILABLE.
   */
  prepare(spec: WorkloadSpec, signal: AbortSignal, onProgress: OnProgress): Promise<Prepared>
  /**
   * Starts a prepared workload; resolves when its process has started, not when it is ready. Idempotent by replica and
   * spec hash and generation: the running workload is answered. A different generation under the same replica id that
   * still exists is removed first. A start that fails leaves nothing.
   */
  start(spec: WorkloadSpec, signal: AbortSignal): Promise<Workload>
  /** SIGTERM, after `graceMs` SIGKILL; resolves when it is gone, also when it was not there. */
  stop(id: string, options: { readonly graceMs: number }): Promise<void>
  /** Every workload of this instance, found by label: the truth. Ended ones included until they are stopped. */
  list(): Promise<readonly ObservedWorkload[]>
  /**
   * The containers that somebody else runs and whose labels say that they speak the runner protocol, ended ones included.
   * They are only looked at: nothing here starts, stops or changes one. Absent where there can be none.
   */
  discover?(): Promise<readonly ForeignWorkload[]>
  /** Hints that something changed; `list` and `discover` tell what. Ends when the signal aborts. */
  watch(signal: AbortSignal): AsyncIterable<WorkloadEvent>
  /** Lines of the workload's output, oldest first. With `follow`, ends when the workload does or the signal aborts. */
  logs(id: string, options: LogOptions): AsyncIterable<LogLine>
  /**
   * Removes what is kept for a module that is gone: its networks, and with `data` what can't be made anew. Idempotent;
   * a module that comes back gets what it needs again. Rejects while a workload of it is there.
   */
  forget(module: string, options: { readonly data: boolean }): Promise<void>
  /**
   * Removes what this instance's installs left running, whatever it does; answers its names. For when no orchestrator of
   * the instance is alive. Absent where installs end with their orchestrator.
   */
  removeInstalls?(): Promise<readonly string[]>
  /** Gives back connections; workloads go on where the engine keeps them. */
  close(): Promise<void>
}

export interface EngineCapabilities {
  /** `none`: modules run as the same user on the same machine. */
  readonly isolation: 'container' | 'none'
  /** Workloads outlive the orchestrator and can be adopted. */
  readonly adopts: boolean
  /** Image modules and base images can run. */
  readonly images: boolean
  /** `network: none` is enforced. */
  readonly networkPolicy: boolean
  readonly gpus: readonly GpuDevice[]
  /** Main memory of the machine that runs the workloads, bytes; Infinity: not known. */
  readonly memoryBytes: number
  /** Version and address of the engine, for people. */
  readonly description: string
  /** What takes points off a module's security score on this engine, beyond what its own manifest does. */
  readonly weaknesses: readonly Weakness[]
}

export interface Weakness {
  readonly points: number
  readonly finding: string
}

export interface GpuDevice {
  /** As the engine names it: an index, a UUID, or a CDI name such as `nvidia.com/gpu=0`. */
  readonly id: string
  readonly kind: 'nvidia' | 'amd'
  readonly via: 'device-request' | 'cdi' | 'device-file' | 'host'
  readonly memoryBytes?: number
}

export type OnProgress = (progress: PrepareProgress) => void

export interface PrepareProgress extends ProgressView {
  /** A line of the installer's or builder's output, for the module's log. */
  readonly line?: string
  readonly environmentKey?: string
}

export interface Prepared {
  /** Absent: the workload needs no environment. */
  readonly environment?: EnvironmentInfo
  /** True when nothing had to be pulled, built or installed. */
  readonly cached: boolean
}

export interface EnvironmentStore {
  list(): Promise<readonly EnvironmentInfo[]>
  /** Removes every environment whose key is not in `keep` and that no workload uses; answers those removed. */
  prune(keep: ReadonlySet<string>): Promise<readonly EnvironmentInfo[]>
}

export interface EnvironmentInfo {
  readonly key: string
  readonly bytes?: number
  /** ISO 8601. */
  readonly createdAt?: string
}

export type Endpoint =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string }

export interface Workload {
  /** The engine's own id: what `stop` and `logs` take. */
  readonly id: string
  readonly endpoint: Endpoint
  /** What `docker inspect` takes, where there is such a thing. */
  readonly container?: string
  readonly gpus: readonly string[]
  /** What its runner asks for, where that is not Berth's own choice: containers that somebody else runs. */
  readonly token?: string | undefined
}

export interface ObservedWorkload {
  readonly id: string
  readonly module: string
  readonly replica: string
  readonly generation: number
  readonly specHash: string
  readonly state: 'created' | 'running' | 'paused' | 'exited'
  /** While it runs. */
  readonly endpoint?: Endpoint
  readonly container?: string
  readonly gpus: readonly string[]
  /** Once it has ended. */
  readonly exit?: WorkloadExit
}

/** A container of somebody else, as module-formats "4. Image modules" has it. */
export interface ForeignWorkload {
  readonly id: string
  /** What `docker inspect` takes. A new container may have the name of one that is gone. */
  readonly container: string
  /** Who runs it, for people: `compose service shop/prices`. Absent where nobody in particular does. */
  readonly group?: string
  readonly image: string
  /** Its own and those of its image. */
  readonly labels: Readonly<Record<string, string>>
  /** Milliseconds since the epoch; a new start of the same container changes nothing about it. */
  readonly createdMs: number
  readonly state: ObservedWorkload['state']
  /** While it runs and can be reached. */
  readonly endpoint?: Endpoint
  /** Why one that runs can't be reached, and what to do about it. */
  readonly problem?: BerthError
  /** What its runner asks for (BERTH_TOKEN). */
  readonly token?: string
}

export interface WorkloadExit {
  readonly code?: number
  readonly signal?: string
  readonly outOfMemory?: boolean
}

export type WorkloadEvent =
  | { readonly kind: 'changed'; readonly id: string }
  /** Anything may have changed: the watch began, broke or was resumed. */
  | { readonly kind: 'resync' }

export interface LogOptions {
  readonly follow?: boolean
  /** Only lines after the one that had this position; from another workload's line nothing follows. */
  readonly after?: string
  readonly tail?: number
  readonly signal: AbortSignal
}

export interface LogLine {
  readonly stream: 'stdout' | 'stderr'
  /** Without the line end. Lines longer than 64 KiB are cut in pieces. */
  readonly text: string
  /** Milliseconds since the epoch, where the engine knows. */
  readonly timeMs?: number
  /** Where it stands in the workload's output, where the engine knows: reading goes on `after` it, exactly. */
  readonly position?: string
}
