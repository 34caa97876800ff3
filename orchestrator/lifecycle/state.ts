import type { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ModelDefinition, ModuleManifest } from '../domain/manifest.ts'
import type { Priority } from '../domain/priority.ts'
import type { ReplicaState } from '../domain/replica.ts'
import type { ProgressView } from '../domain/views.ts'
import type { EnvironmentInfo, Workload } from '../engines/engine.ts'
import type { Shortage } from './resources/schedule.ts'

/**
 * What the writer of one module knows. Only the writer changes it, by facts (apply.ts) and by
 * what it enacts (module-writer.ts, replica-driver.ts); decide.ts reads it.
 * Times are milliseconds of the clock.
 */
export interface ModuleState {
  readonly id: string
  definition: ModuleDefinition
  wanted: 'enabled' | 'disabled' | 'removed'
  /** Image and environment of the definition; shared by all replicas. */
  preparation: Preparation
  readonly replicas: Map<string, Replica>
  /** By replica: what keeps it from starting, or from loading models, until there is room (resources/). */
  readonly shortages: Map<string, HeldBack>
  /** Counts grants: of equally good replicas each gets its turn (balance.ts). */
  turn: number
  /** Everyone who waits for a model, oldest first. */
  waiters: Waiter[]
  /** `model caller` -> when that caller was last served from the line, as a count (queue.ts): the latest of them; none when nobody waits. */
  readonly served: Map<string, number>
  /** Explicit loads and offloads that wait for their turn, oldest first. */
  operations: Operation[]
  /** Of what precedes every start: preparation, and the store. Replicas count their own. */
  readonly failure: Failure
  /** What autoscaling has seen and decided (scaling.ts). */
  readonly scaling: Scaling
  /** Models that an explicit load named with a configuration of its own. */
  readonly adhoc: Map<string, JsonObject>
  /** A restart that was asked for; carried out as a drain of what runs now, one replica after the other. */
  restartCause: string | undefined
}

export interface ModuleDefinition {
  readonly manifest: ModuleManifest
  /** Models of this module that can be asked for by name. */
  readonly models: ReadonlyMap<string, ModelDefinition>
  /** Identifies what the container is made of; a replica with another one is outdated. */
  readonly specHash: string
  /** Its containers are somebody else's: they are found and used, never started or stopped. */
  readonly external: boolean
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

export interface HeldBack {
  shortage: Shortage
  readonly sinceMs: number
  /** There may be room by now. */
  retry: boolean
}

/** How many replicas the load asks for, beyond the one that any request starts. */
export interface Scaling {
  /** Replicas that are kept for the load; from 1 on. */
  target: number
  /** Since when the load has needed more than `target` without a break. */
  overSinceMs: number | undefined
  /** Since when it has needed less, and the most that it has needed since. */
  underSinceMs: number | undefined
  peak: number
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
  /** From the decision to start it until it answered; 0: not known, it was adopted. */
  bootMs: number
  /** Set when its models are to be offloaded, for whose need. */
  yields: string | undefined
  lastUsedMs: number
  error: BerthError | undefined
  restarts: number
  /** Failed starts and crashes under this id, in a row. */
  readonly failure: Failure
  /** Models to load although nobody asks: what was lost in a crash, or what the replica has that it is to replace. */
  readonly warm: Set<string>
  /** The outdated replica that goes when this one serves in its place. */
  readonly replaces: { readonly id: string; readonly generation: number } | undefined
  /** A restart was asked for while it ran: it is to be replaced. */
  toRestart: boolean
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
  /** How long an inference takes, milliseconds: a moving average of the leases given back; 0: not known yet. */
  serviceMs: number
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
  /** `use` gets a lease; `load` is content when the model is loaded somewhere. */
  readonly kind: 'use' | 'load'
  readonly model: string
  readonly maxInflight: number
  /** Whom the queue is fair to; `module:<its own id>` for a revival. */
  readonly caller: string
  readonly priority: Priority
  readonly sinceMs: number
  /** The module's count of grants when it came. */
  readonly turn: number
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
  readonly sinceMs: number
  /** Why it can't be carried out; it is told so in the next decision. */
  doom: BerthError | undefined
  /** An offload goes from replica to replica: one is at it. */
  running: boolean
  /** What an offload has offloaded so far. */
  readonly offloaded: Set<string>
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

/** Answers: its start is over. */
export function isUp(replica: Replica): boolean {
  return isLive(replica) && replica.state !== 'preparing' && replica.state !== 'starting'
}

/** Lives, and is not about to go. */
export function stays(replica: Replica): boolean {
  return isLive(replica) && replica.drain === undefined
}

/** The outdated replica that this one is to take over from, while it is that: its id may be another's later, and a change may be taken back. */
export function replacedBy(state: ModuleState, { replaces }: Replica): Replica | undefined {
  if (replaces === undefined) return undefined
  const replaced = state.replicas.get(replaces.id)
  if (replaced?.generation !== replaces.generation) return undefined
  return replaced.specHash === state.definition.specHash ? undefined : replaced
}

export function newModuleState(definition: ModuleDefinition, wanted: ModuleState['wanted']): ModuleState {
  return {
    id: definition.manifest.id,
    definition,
    wanted,
    preparation: { specHash: definition.specHash, state: 'needed' },
    replicas: new Map(),
    shortages: new Map(),
    turn: 0,
    waiters: [],
    served: new Map(),
    operations: [],
    failure: noFailure(),
    scaling: { target: 1, overSinceMs: undefined, underSinceMs: undefined, peak: 0 },
    adhoc: new Map(),
    restartCause: undefined,
  }
}

function noFailure(): Failure {
  return { count: 0, untilMs: 0, error: undefined }
}

export interface ReplicaOrigin {
  /** The failed generation of the same id, whose count of failures and lost models go on. */
  readonly before?: Replica | undefined
  readonly replaces?: Replica | undefined
  readonly warm?: Iterable<string>
}

export function newReplica(
  id: string,
  generation: number,
  specHash: string,
  nowMs: number,
  { before, replaces, warm = [] }: ReplicaOrigin = {},
): Replica {
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
    bootMs: 0,
    yields: undefined,
    lastUsedMs: nowMs,
    error: undefined,
    restarts: before?.restarts ?? 0,
    failure: before ? { ...before.failure } : noFailure(),
    warm: new Set([...(before?.warm ?? []), ...warm]),
    replaces: replaces ? { id: replaces.id, generation: replaces.generation } : before?.replaces,
    toRestart: false,
  }
}

/** What SERVICE_LOAD_MODELS gets for a model, or undefined for one that nobody configured. */
export function modelConfiguration(state: ModuleState, model: string): JsonObject | undefined {
  return state.adhoc.get(model) ?? state.definition.models.get(model)?.configuration
}
