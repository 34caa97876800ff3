import type { ErrorBody } from './errors.ts'
import type { ModuleFormat, Scale } from './manifest.ts'
import type { ReplicaState } from './replica.ts'

/** The shapes that the API answers with (api.md, "Shapes that clients build on"). */
export interface ModuleView {
  readonly id: string
  readonly format: ModuleFormat
  readonly version?: string
  readonly description?: string
  readonly desired: 'enabled' | 'disabled'
  readonly state: ReplicaState
  /** Folder path or image reference. */
  readonly source: string
  /** How many replicas there may be; absent while nothing says so, as of a module whose manifest is broken. */
  readonly scale?: Scale
  readonly replicas: readonly ReplicaView[]
  readonly models: readonly string[]
  readonly environment?: EnvironmentView
  readonly error?: ErrorBody
  /** How well the engine confines this module, 0 to 100, with what takes points off. */
  readonly security: SecurityView
  /** What goes on right now, for people: the installer's last line, a pull's progress. */
  readonly progress?: ProgressView
}

export interface ReplicaView {
  readonly id: string
  readonly generation: number
  readonly state: ReplicaState
  /** What `docker inspect` takes. */
  readonly container?: string
  readonly gpus: readonly string[]
  readonly models: readonly string[]
  readonly inflight: number
  readonly restarts: number
  readonly error?: ErrorBody
}

/** A device and who holds it. Sizes are bytes. */
export interface GpuView {
  readonly id: string
  readonly kind: 'nvidia' | 'amd'
  readonly memory?: number
  /** Promised to holders, or measured where that is more. */
  readonly used?: number
  /** Modules. */
  readonly holders: readonly string[]
  readonly allocations: readonly GpuAllocationView[]
}

export interface GpuAllocationView {
  readonly module: string
  readonly replica: string
  /** It has the device alone. */
  readonly exclusive: boolean
  /** Of a shared device: what it asked for, also while it has no models and holds none of it. */
  readonly declared?: number
  readonly measured?: number
  /** What is kept for it now. */
  readonly held?: number
}

export interface EnvironmentView {
  readonly key: string
  readonly state: 'absent' | 'installing' | 'ready' | 'failed'
  readonly bytes?: number
}

export interface SecurityView {
  readonly score: number
  readonly findings: readonly string[]
}

export interface ProgressView {
  readonly phase: 'image' | 'environment' | 'files' | 'start' | 'load'
  readonly message: string
  /** Bytes or steps done and to do, where they are known. */
  readonly current?: number
  readonly total?: number
}

export interface ModelView {
  readonly name: string
  readonly module: string
  readonly state: ReplicaState
  /** Replicas that have it loaded. */
  readonly replicas: readonly string[]
  readonly queued: number
  readonly inflight: number
  /** ISO 8601. */
  readonly lastUsed?: string
  readonly error?: ErrorBody
}

/** What would be done now to bring what runs to what is wanted. */
export interface PlanStepView {
  readonly action: string
  readonly module: string
  readonly replica?: string
  readonly cause: string
}

/** One line of a module's log. */
export interface LogRecord {
  /** Given by the log: whoever has this line goes on after it. */
  readonly id?: number
  /** ISO 8601. */
  readonly time: string
  readonly level: 'debug' | 'info' | 'warning' | 'error' | 'critical'
  /** Who wrote it: the module's code, its runner, the installer of its environment, or the orchestrator. */
  readonly source: 'module' | 'runner' | 'installer' | 'orchestrator'
  readonly message: string
  readonly replica?: string
}

/** A state change with its cause. */
export interface BerthEvent {
  readonly id: number
  /** ISO 8601. */
  readonly time: string
  readonly type: string
  readonly module?: string
  readonly replica?: string
  readonly from?: string
  readonly to?: string
  readonly cause: string
}
