import type { JsonObject } from '../domain/json.ts'
import type { ModuleFields } from './module-fields.ts'

/**
 * Configuration: `berth.yaml` and the environment become one deeply frozen `Config` (load.ts). Defaults are applied,
 * paths are absolute, durations are milliseconds, sizes are bytes.
 */
export interface Config {
  /** Absolute path of the file that was read; absent when there is none and the defaults hold. */
  readonly file?: string
  readonly listen: ListenAddress
  readonly engine: EngineChoice
  /** Folder whose folders are modules. */
  readonly modules: string
  /** Folder of the store, environments of the embedded engine, logs. */
  readonly data: string
  /** `none` only ever stands with a loopback address. */
  readonly auth: 'none' | 'keys'
  /** Secret of BERTH_ADMIN_KEY or BERTH_ADMIN_KEY_FILE: to be hashed at once, never written or shown. */
  readonly adminKey?: string
  /** Further host names (`name` or `name:port`) that `Host` and `Origin` may hold. */
  readonly allowedHosts: readonly string[]
  /** `models:` and `services:` together, in the order written. */
  readonly models: Readonly<Record<string, ConfiguredModel>>
  /** `module_settings:` by module id. */
  readonly moduleSettings: Readonly<Record<string, ModuleSettings>>
  /** What becomes of module containers when the orchestrator ends. */
  readonly shutdown: 'keep' | 'stop'
  readonly bodyLimitBytes: number
  /** Main memory that modules may be promised together; Infinity: no account is kept. Absent: what the engine's machine has. */
  readonly memoryBytes?: number
  readonly logLevel: LogLevel
  /** What a module's queue is where neither its `module.yaml` nor its settings say. */
  readonly queue: { readonly limit: number; readonly timeoutMs: number }
  readonly docker: DockerConfig
  /** Changes of the file and of modules apply while Berth runs. */
  readonly reload: boolean
  /** Name for this instance's labels in place of the id that the store makes. */
  readonly instance?: string
}

export interface ListenAddress {
  readonly host: string
  /** 0: any free port. */
  readonly port: number
}

export const engineChoices = ['auto', 'docker', 'swarm', 'kubernetes', 'process'] as const
export type EngineChoice = (typeof engineChoices)[number]

export const logLevels = ['debug', 'info', 'warn', 'error', 'silent'] as const
export type LogLevel = (typeof logLevels)[number]

export interface DockerConfig {
  /** Image of modules that name none: glibc and Python 3. */
  readonly baseImage: string
  /** Image that holds the module runner; built from the sources when absent. */
  readonly runnerImage?: string
  /** CIDR ranges from which every module network gets a subnet of its own. */
  readonly subnets: readonly string[]
  /** Prefix length of such a subnet. */
  readonly subnetPrefix: number
}

/** An entry of `models:` (or `services:`). */
export interface ConfiguredModel {
  /** Module that serves it; absent for an alias. */
  readonly module?: string
  /** Another model that this name stands for. */
  readonly redirectTo?: string
  /** Inferences at once per replica; the module's own number when absent. */
  readonly maxSimulUsers?: number
  /** Idle time after which it is offloaded; Infinity: never. The module's own when absent. */
  readonly idleTtlMs?: number
  /** The entry whole, as written: floats keep their point (domain/json.ts). */
  readonly configuration: JsonObject
  /** Where it stands, for errors: `berth.yaml:12:3`. */
  readonly location: string
}

/** What a user says of one module: wins over its `module.yaml`. Absent: not said. */
export interface ModuleSettings extends ModuleFields {
  /** Merged over the module's default configuration file. Floats keep their point. */
  readonly config?: JsonObject
  readonly env?: Readonly<Record<string, string>>
}
