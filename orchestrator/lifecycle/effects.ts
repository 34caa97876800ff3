import { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { EnvironmentInfo, PrepareProgress, Workload, WorkloadExit } from '../engines/engine.ts'
import type { RunnerClient, RunnerHealth } from '../runner/client.ts'
import type { ColdStartPhase, CrashKind, Rejection } from '../telemetry/metrics-lifecycle.ts'
import type { ModuleDefinition } from './state.ts'

/**
 * Everything that a writer does to the world, in one interface: the real one drives an engine and runners
 * (engine-effects.ts), the one of the unit tests records. Every method rejects with a BerthError.
 */
export interface Effects {
  /** Throws where the number can't be kept. */
  nextGeneration(replica: string): number
  /**
   * Keeps what was configured for a model that the replica has loaded (configured-hash.ts), until its workload is gone.
   * Undefined: not known any more. Throws where it can't be kept.
   */
  remember(replica: ReplicaRef, model: string, hash: string | undefined): void
  /** Model -> hash, as kept by this orchestrator or the one before. Throws where it can't be read. */
  remembered(replica: ReplicaRef): ReadonlyMap<string, string>
  prepare(
    definition: ModuleDefinition,
    signal: AbortSignal,
    onProgress: (progress: PrepareProgress) => void,
  ): Promise<EnvironmentInfo | undefined>
  /** With these devices. */
  start(
    definition: ModuleDefinition,
    replica: ReplicaRef,
    devices: readonly string[],
    signal: AbortSignal,
  ): Promise<Workload>
  /** A client of the runner at the workload's endpoint; its owner closes it. */
  connect(definition: ModuleDefinition, replica: ReplicaRef, workload: Workload): RunnerClient
  /** Resolves with the first health that is not `starting`; rejects with START_TIMEOUT, or WORKLOAD_EXITED at once when it ends. */
  awaitAnswer(
    definition: ModuleDefinition,
    workload: Workload,
    client: RunnerClient,
    signal: AbortSignal,
  ): Promise<RunnerHealth>
  load(
    definition: ModuleDefinition,
    client: RunnerClient,
    models: Readonly<Record<string, JsonObject>>,
    signal: AbortSignal,
  ): Promise<readonly string[]>
  offload(
    definition: ModuleDefinition,
    client: RunnerClient,
    models: readonly string[],
    signal: AbortSignal,
  ): Promise<readonly string[]>
  /**
   * Why the workload of a runner that answers no more has ended: the engine may learn of it a moment later, which is
   * waited for. Undefined where it still runs or nobody knows. Never rejects.
   */
  whyEnded(definition: ModuleDefinition, workload: Workload): Promise<BerthError | undefined>
  /** The last lines that a workload wrote, as far as they can be had. Never rejects. */
  lastLines(workload: Workload): Promise<readonly string[]>
  /** Resolves when it is gone. Retries while the engine can't be reached. */
  stop(
    definition: ModuleDefinition,
    replica: ReplicaRef,
    workload: Workload | undefined,
    graceMs: number,
  ): Promise<void>
}

export interface ReplicaRef {
  readonly id: string
  readonly generation: number
}

/** Is told what happens, for events, logs and metrics. Must not throw. Times are milliseconds. */
export interface LifecycleObserver {
  moved(module: string, replica: ReplicaRef, from: ReplicaState, to: ReplicaState, cause: string): void
  preparing(module: string, progress: PrepareProgress): void
  prepared(module: string, outcome: 'ready' | 'failed', durationMs: number, cause: string): void
  /** A runner answers (`up`), or its workload is gone (`down`). */
  replicaUp(
    module: string,
    replica: ReplicaRef,
    workload: Workload,
    client: RunnerClient,
    definition: ModuleDefinition,
  ): void
  replicaDown(module: string, replica: ReplicaRef): void
  crashed(module: string, replica: ReplicaRef, cause: string, kind: CrashKind): void
  /** One phase of a cold start is over; `first-chunk` is that of the first request after it. */
  coldStart(module: string, phase: ColdStartPhase, ms: number): void
  /** A request got its lease that had to wait for it. Those served at once are counted where they are dispatched. */
  admitted(module: string, model: string, waitedMs: number): void
  rejected(module: string, model: string, reason: Rejection): void
  /** A replica that ran before this orchestrator has answered. */
  adopted(module: string, replica: ReplicaRef, ms: number): void
  /** A model was offloaded, or a replica stopped, because nothing was asked of it. */
  idled(module: string, what: 'offload' | 'stop'): void
  /** How long the first request after that waited for the load or the start. */
  wayBack(module: string, what: 'load' | 'start', ms: number): void
  /** The wanted number of replicas has changed. */
  scaled(module: string, from: number, to: number, cause: string): void
}

/** Which kind of failure ended a replica that was in the state `from`. */
export function crashKind(from: ReplicaState, error: BerthError | undefined): CrashKind {
  if (error?.code === 'OUT_OF_MEMORY') return 'out-of-memory'
  if (error?.details.removed === true) return 'removed'
  if (from === 'preparing' || from === 'starting') return 'start-failed'
  if (error?.code === 'LOAD_TIMEOUT' || error?.code === 'INFERENCE_TIMEOUT') return 'hung'
  return error?.code === 'RUNNER_UNREACHABLE' ? 'unreachable' : 'exited'
}

/** Why a workload is gone, with the last it said. */
export function exitError(module: string, exit: WorkloadExit, lines: readonly string[]): BerthError {
  const said = lines.length === 0 ? `see: berth logs ${module}` : `its last line: ${lines.at(-1)}`
  return new BerthError(
    exit.outOfMemory ? 'OUT_OF_MEMORY' : 'WORKLOAD_EXITED',
    `Module ${module} has ended: ${describeExit(exit)}; ${said}`,
    {
      module,
      ...(exit.code === undefined ? {} : { exitCode: exit.code }),
      ...(exit.signal ? { signal: exit.signal } : {}),
      ...(lines.length === 0 ? {} : { lines }),
    },
  )
}

/** For people: `exit code 3`, `signal SIGSEGV`, `out of memory`. */
export function describeExit(exit: WorkloadExit): string {
  if (exit.outOfMemory) return 'it ran out of memory'
  if (exit.signal) return `signal ${exit.signal}`
  return exit.code === undefined ? 'for an unknown reason' : `exit code ${exit.code}`
}
