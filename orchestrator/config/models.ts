import { isJsonObject } from '../domain/json.ts'
import type { ConfiguredModel, ModuleSettings } from './config.ts'
import type { YamlDocument } from './document.ts'
import { defined, milliseconds, readModuleFields } from './module-fields.ts'
import type { ConfigDocument } from './schema.ts'

/** `models:` and `services:` as one, of a document that has no problems. */
export function readConfiguredModels(
  written: ConfigDocument,
  document: YamlDocument,
): Readonly<Record<string, ConfiguredModel>> {
  const models: Record<string, ConfiguredModel> = Object.create(null)
  for (const section of ['models', 'services'] as const) {
    for (const [name, entry] of Object.entries(written[section] ?? {})) {
      const path = [section, name]
      const configuration = document.written(path)
      const { file, line, column } = document.problem(path, '', 'key')
      models[name] = {
        ...defined({ module: entry.module ?? entry.service, redirectTo: entry.redirect_to }),
        ...modelLimits(entry),
        configuration: isJsonObject(configuration) ? configuration : {},
        location: `${file}:${line}:${column}`,
      }
    }
  }
  return models
}

/** Berth's own keys of a model's entry, wherever it stands. Takes values of any kind and reads those that fit. */
export function modelLimits(entry: {
  readonly max_simul_users?: unknown
  readonly offload_seconds?: unknown
  readonly idle_ttl?: unknown
}): { readonly maxSimulUsers?: number; readonly idleTtlMs?: number } {
  const { max_simul_users: users, offload_seconds: seconds, idle_ttl: ttl } = entry
  const offloadMs = typeof seconds === 'number' ? (seconds < 0 ? Number.POSITIVE_INFINITY : seconds * 1000) : undefined
  const ttlMs = typeof ttl === 'string' || typeof ttl === 'number' ? milliseconds(ttl) : undefined
  return defined({
    maxSimulUsers: typeof users === 'number' && Number.isInteger(users) && users > 0 ? users : undefined,
    idleTtlMs: ttlMs ?? offloadMs,
  })
}

/** `module_settings:` of a document that has no problems. */
export function readModuleSettings(
  written: ConfigDocument,
  document: YamlDocument,
): Readonly<Record<string, ModuleSettings>> {
  const settings: Record<string, ModuleSettings> = Object.create(null)
  for (const [id, entry] of Object.entries(written.module_settings ?? {})) {
    const config = document.written(['module_settings', id, 'config'])
    settings[id] = {
      ...readModuleFields(entry),
      ...defined({ config: isJsonObject(config) ? config : undefined, env: entry.env }),
    }
  }
  return settings
}
