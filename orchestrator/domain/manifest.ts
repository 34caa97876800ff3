import type { JsonObject } from './json.ts'

/** Every format of module becomes one manifest (module-formats). Defaults are applied; durations are milliseconds. */
export interface ModuleManifest {
  /** Unique among all modules; the folder's name, or what `module.yaml` or the image's label says. */
  readonly id: string
  readonly format: ModuleFormat
  readonly version?: string
  readonly description?: string
  readonly source: ModuleSource
  /** What the container is made of. */
  readonly base: ModuleBase
  /** The file to import, relative to the folder: `service.py` or `serv.py`. Folders only. */
  readonly entry?: string
  /** Python wanted for the environment, such as `3.12`. The base image's (or machine's) own when absent. */
  readonly python?: string
  readonly requirements: Requirements
  readonly gpu?: GpuRequest
  readonly resources: { readonly cpus?: number; readonly memoryBytes?: number }
  readonly network: 'none' | 'egress'
  readonly scale: Scale & { readonly targetInflight?: number }
  /** Inferences at once per model and replica where a model's `max_simul_users` says nothing. */
  readonly concurrency: number
  /** Idle time after which a model is offloaded; Infinity: never. */
  readonly idleTtlMs: number
  /** Idle time after which the container is stopped; Infinity: never. */
  readonly stopTtlMs: number
  /** Models that this module may call through `services_manager`. */
  readonly calls: readonly string[]
  readonly onDisconnect: 'cancel' | 'drain'
  readonly timeouts: ModuleTimeouts
  readonly queue: { readonly limit: number; readonly timeoutMs: number }
  readonly serves: readonly string[]
  /** Models that the module itself names, with their configuration. */
  readonly models: Readonly<Record<string, JsonObject>>
  /** The user's configuration of the module (`module_settings.<id>.config`), merged over its default file. */
  readonly configuration?: JsonObject
  /** Variables for the module's process. */
  readonly env: Readonly<Record<string, string>>
  /** Other modules that this one needs: id -> range of versions. */
  readonly dependencies?: Readonly<Record<string, string>>
  /** Changes whenever anything that the container is made of changes: files, module.yaml, settings. */
  readonly contentHash: string
}

/** How many replicas always run, and how many at most. */
export interface Scale {
  readonly min: number
  readonly max: number
}

/** No user means more replicas of one module on one machine. */
export const mostReplicas = 64

export type ModuleFormat = 'service' | 'block' | 'reactory' | 'image'

export type ModuleSource =
  | { readonly kind: 'folder'; readonly path: string }
  | { readonly kind: 'image'; readonly reference: string }
  /** Containers that somebody else runs; `reference`: who, for people. */
  | { readonly kind: 'external'; readonly reference: string }

/** `protocol`: an image that speaks the runner protocol itself. The others get the module runner mounted. */
export type ModuleBase =
  | { readonly kind: 'protocol'; readonly image: string }
  | { readonly kind: 'image'; readonly image: string }
  | { readonly kind: 'dockerfile'; readonly dockerfile: string; readonly context: string }
  | { readonly kind: 'default' }

export interface Requirements {
  /** `requirements.py` or `requirements.txt`, relative to the folder. */
  readonly file?: string
  /** Requirement specifiers added by `module.yaml`. */
  readonly extra: readonly string[]
  /** Hash of the normalised requirements and of every local file that they name; part of the environment's key. */
  readonly hash: string
  /** Nothing to install: the module runs on the base's own Python. */
  readonly empty: boolean
}

export interface GpuRequest {
  readonly count: number
  readonly memoryBytes?: number
  /** Runs on the CPU where none is free. */
  readonly optional: boolean
}

/** Milliseconds; Infinity is `none`. */
export interface ModuleTimeouts {
  readonly installMs: number
  readonly startMs: number
  readonly loadMs: number
  readonly inferMs: number
  readonly firstChunkMs: number
  readonly betweenChunksMs: number
  readonly callMs: number
  readonly drainMs: number
}

/** A model that can be asked for by name: configured, or offered by a module. */
export interface ModelDefinition {
  readonly name: string
  readonly module: string
  /** The entry as written, Berth's own keys included: this reaches SERVICE_LOAD_MODELS. */
  readonly configuration: JsonObject
  /** Inferences at once per replica. */
  readonly maxSimulUsers: number
  /** Idle time after which it is offloaded; Infinity: never. */
  readonly idleTtlMs: number
}

/** A source in one word for people: path, reference, or who runs the containers. */
export function sourcePlace(source: ModuleSource): string {
  return source.kind === 'folder' ? source.path : source.reference
}
