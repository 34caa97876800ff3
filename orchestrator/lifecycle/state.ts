import type { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ModelDefinition, ModuleManifest } from '../domain/manifest.ts'
import type { Priority } from '../domain/priority.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { ProgressView } from '../domain/views.ts'
import type { EnvironmentInfo, Workload } from '../engines/engine.ts'

/**
 * What the writer of one module knows. Only the writer changes it (apply.ts, enact.ts); decide.ts reads it.
 * Times are milliseconds of the clock.
 */
export interface ModuleState {
  readonly id: string
  definition: ModuleDefinition
  wanted: 'enabled' | 'disabled' | 'removed'
  /** Image and environment of the definition; shared by all replicas. */
  preparation: Preparation
  readonly replicas: Map<string, Replica>
  /** Everyone who waits for a model, oldest first. */
  waiters: Waiter[]
  /** Explicit loads and offloads that wait for their turn, oldest first. */
  operations: Operation[]
  readonly failure: Failure
  /** Models that an explicit load named with a configuration of its own. */
  readonly adhoc: Map<string, JsonObject>
  /** A restart that was asked for; carried out as a drain of what runs now. */
  restartCause: string | undefined
  /** Generations below this one are to be replaced by an asked-for restart. */
  restartBelow: number
}

export interface ModuleDefinition {
  readonly manifest: ModuleManifest
  /** Models of this module that can be asked for by name. */
  readonly models: ReadonlyMap<string, ModelDefinition>
  /** Identifies what the container is made of; a replica with another one is outdated. */
  readonly specHash: string
}

export interface Preparation {
  specHash: string
  state: 'needed' | 'running' | 'done' | 'failed'
  progress?: ProgressView | undefined
  environment?: EnvironmentInfo | undefined
  error?: BerthError | undefined
}

/** Failures in a row, and until when nothing is started again without being asked to. */
export interface Failure {
  count: number
  untilMs: number
  error: BerthError | undefined
}

export interface Replica {
  readonly id: string
  readonly generation: number
  readonly specHash: string
  state: ReplicaState
  workload: Workload | undefined
  readonly models: Map<string, LoadedModel>
  /** The load or offload under way: one at a time, the module's main thread runs it. */
  operation: RunningOperation | undefined
  operationBeganMs: number
  inflight: number
  /** Set when it is to go: nothing new is granted, it is stopped when the leases are back or time is up. */
  drain: Drain | undefined
  /** After a sign that the worker was lost its health is asked: nothing is granted until it has answered. */
  suspicion: 'none' | 'raised' | 'asking'
  startedMs: number
  lastUsedMs: number
  error: BerthError | undefined
  restarts: number
}

export interface Drain {
  readonly deadlineMs: number
  readonly cause: string
  /** Requests that wait already are still served. */
  readonly servesWaiters: boolean
  /** From SIGTERM to SIGKILL. */
  readonly graceMs: number
  /** Why it had to go, where that counts as a failure of its own: the next start waits for the back-off. */
  readonly failure?: BerthError
}

export interface LoadedModel {
  inflight: number
  lastUsedMs: number
  loadBeganMs: number
  loadedMs: number
  /** Loaded with a configuration that has changed since: it is loaded anew before it serves again. */
  stale: boolean
}

export interface RunningOperation {
  readonly kind: 'load' | 'offload'
  readonly models: readonly string[]
  /** The explicit operation that it carries out, if any. */
  readonly operation?: Operation
  /** Of its models, those whose configuration has changed since it began. */
  readonly outdated: Set<string>
}

export interface Waiter {
  readonly id: number
  /** `use` gets a lease; `load` is content when the model is loaded; `revive` is nobody's: it reloads after a crash. */
  readonly kind: 'use' | 'load' | 'revive'
  readonly model: string
  readonly maxInflight: number
  /** Whom the queue is fair to; `module:<its own id>` for a revival. */
  readonly caller: string
  readonly priority: Priority
  readonly sinceMs: number
  /** Since when only other requests, not a cold start, keep it waiting. */
  queuedSinceMs: number | undefined
  position: number
  /** Why it can't be served; it is told so in the next decision. */
  doom: BerthError | undefined
}

export interface Operation {
  readonly id: number
  readonly kind: 'load' | 'offload'
  readonly models: Readonly<Record<string, JsonObject>>
  readonly names: readonly string[]
  /** Why it can't be carried out; it is told so in the next decision. */
  doom: BerthError | undefined
}

export const liveStates: ReadonlySet<ReplicaState> = new Set([
  'preparing',
  'starting',
  'idle',
  'loading',
  'ready',
  'offloading',
])

export function isLive(replica: Replica): boolean {
  return liveStates.has(replica.state)
}

export function newModuleState(definition: ModuleDefinition, wanted: ModuleState['wanted']): ModuleState {
  return {
    id: definition.manifest.id,
    definition,
    wanted,
    preparation: { specHash: definition.specHash, state: 'needed' },
    replicas: new Map(),
    waiters: [],
    operations: [],
    failure: { count: 0, untilMs: 0, error: undefined },
    adhoc: new Map(),
    restartCause: undefined,
    restartBelow: 0,
  }
}

export function newReplica(id: string, generation: number, specHash: string, nowMs: number, restarts: number): Replica {
  return {
    id,
    generation,
    specHash,
    state: 'absent',
    workload: undefined,
    models: new Map(),
    operation: undefined,
    operationBeganMs: nowMs,
    inflight: 0,
    drain: undefined,
    suspicion: 'none',
    startedMs: nowMs,
    lastUsedMs: nowMs,
    error: undefined,
    restarts,
  }
}

/** What SERVICE_LOAD_MODELS gets for a model, or undefined for one that nobody configured. */
export function modelConfiguration(state: ModuleState, model: string): JsonObject | undefined {
  return state.adhoc.get(model) ?? state.definition.models.get(model)?.configuration
}
