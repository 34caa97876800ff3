import type { ModuleSettings } from '../config/config.ts'
import { defined, moduleDefaults, readTimeouts } from '../config/module-fields.ts'
import type {
  ModuleBase,
  ModuleFormat,
  ModuleManifest,
  ModuleSource,
  ModuleTimeouts,
  Requirements,
} from '../domain/manifest.ts'
import { parseDuration } from '../domain/quantity.ts'
import { sha256 } from './files.ts'
import type { ModuleYaml } from './module-yaml.ts'

/** Defaults of the whole installation, below what a module says. */
export interface CatalogDefaults {
  readonly queue?: { readonly limit: number; readonly timeoutMs: number }
}

export interface ManifestParts {
  readonly id: string
  readonly format: ModuleFormat
  readonly source: ModuleSource
  readonly base: ModuleBase
  readonly entry?: string
  readonly requirements: Requirements
  readonly yaml: ModuleYaml
  readonly settings: ModuleSettings
  readonly defaults: CatalogDefaults
  /** Hash of the module's files, or the id of its image. */
  readonly content: string
}

const never = Number.POSITIVE_INFINITY
const timeoutDefaults = readTimeouts(moduleDefaults.timeouts) as ModuleTimeouts

/** Settings win over `module.yaml`, which wins over the defaults; keys of `scale`, `queue` and the like one by one. */
export function assembleManifest(parts: ManifestParts): ModuleManifest {
  const { yaml, settings, defaults } = parts
  const gpu = settings.gpu ?? yaml.gpu
  const min = settings.scale?.min ?? yaml.scale?.min ?? moduleDefaults.scale.min
  const max = settings.scale?.max ?? yaml.scale?.max ?? moduleDefaults.scale.max
  const manifest = {
    id: parts.id,
    format: parts.format,
    ...defined({ version: yaml.version, description: yaml.description, entry: parts.entry }),
    source: parts.source,
    base: parts.base,
    ...defined({ python: settings.python ?? yaml.python }),
    requirements: parts.requirements,
    ...(gpu === undefined || gpu === false ? {} : { gpu }),
    resources: { ...yaml.resources, ...settings.resources },
    network: settings.network ?? yaml.network ?? moduleDefaults.network,
    scale: {
      min,
      max: Math.max(min, max),
      ...defined({ targetInflight: settings.scale?.targetInflight ?? yaml.scale?.targetInflight }),
    },
    concurrency: settings.concurrency ?? yaml.concurrency ?? moduleDefaults.concurrency,
    idleTtlMs: settings.idleTtlMs ?? yaml.idleTtlMs ?? never,
    stopTtlMs: settings.stopTtlMs ?? yaml.stopTtlMs ?? never,
    calls: settings.calls ?? yaml.calls ?? [],
    onDisconnect: settings.onDisconnect ?? yaml.onDisconnect ?? moduleDefaults.on_disconnect,
    timeouts: { ...timeoutDefaults, ...yaml.timeouts, ...settings.timeouts },
    queue: {
      limit: settings.queue?.limit ?? yaml.queue?.limit ?? defaults.queue?.limit ?? moduleDefaults.queue.limit,
      timeoutMs:
        settings.queue?.timeoutMs ??
        yaml.queue?.timeoutMs ??
        defaults.queue?.timeoutMs ??
        parseDuration(moduleDefaults.queue.timeout) ??
        never,
    },
    serves: yaml.serves ?? [],
    models: yaml.models ?? {},
    ...defined({ configuration: settings.config, dependencies: yaml.dependencies }),
    env: settings.env ?? {},
  }
  return { ...manifest, contentHash: contentHash(manifest, parts.content) }
}

/**
 * What a container is made of: the files (with them `module.yaml`) or the image, and what the settings change about it.
 * Numbers that only the orchestrator acts on (scale, queue, waiting times) may change without a restart.
 */
function contentHash(manifest: Omit<ModuleManifest, 'contentHash'>, content: string): string {
  const { base, python, requirements, gpu, resources, network, calls, onDisconnect, configuration, env, timeouts } =
    manifest
  const { drainMs, callMs } = timeouts
  const made = {
    base,
    python,
    requirements,
    gpu,
    resources,
    network,
    calls,
    onDisconnect,
    configuration,
    env,
    drainMs,
    callMs,
  }
  return sha256(`${content}\n${JSON.stringify(made)}`)
}
