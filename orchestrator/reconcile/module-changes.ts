import { isDeepStrictEqual } from 'node:util'
import type { CatalogEntry } from '../catalog/catalog.ts'
import type { ModelDefinition } from '../domain/manifest.ts'
import type { BerthEvent } from '../domain/views.ts'
import type { DesiredState } from './supervisor.ts'

/** What became of modules as a whole between two desired states, as events that say why. Pure. */
export type ModuleChange = Required<Pick<BerthEvent, 'type' | 'module' | 'to' | 'cause'>> & Pick<BerthEvent, 'from'>

type Wanted = Pick<DesiredState, 'modules' | 'models' | 'disabled' | 'scales'>

export function moduleChanges(before: Wanted, after: Wanted): readonly ModuleChange[] {
  const earlier = new Map(before.modules.map((entry) => [entry.id, entry]))
  const later = new Set(after.modules.map(({ id }) => id))
  const modelsBefore = modelsByModule(before)
  const modelsAfter = modelsByModule(after)
  const changes: ModuleChange[] = []
  for (const entry of before.modules) {
    if (!later.has(entry.id)) changes.push(change(entry.id, 'removed', `${placeOf(entry)} is no longer there`))
  }
  for (const entry of after.modules) {
    const { id } = entry
    const was = earlier.get(id)
    const disabled = after.disabled.has(id)
    if (was === undefined) changes.push(change(id, 'added', `${placeOf(entry)} is there`))
    if (entry.error && was?.error?.message !== entry.error.message)
      changes.push(change(id, 'broken', entry.error.message))
    if (was?.error && !entry.error) changes.push(change(id, 'mended', `${placeOf(entry)} can be used again`))
    if (was?.manifest && entry.manifest && was !== entry && !isDeepStrictEqual(was.manifest, entry.manifest))
      changes.push(change(id, 'changed', 'its files or settings have changed'))
    else if (was && !isDeepStrictEqual(modelsBefore.get(id), modelsAfter.get(id)))
      changes.push(change(id, 'changed', 'its models have changed'))
    const [from, to] = [rangeOf(before, id), rangeOf(after, id)]
    if (was && from !== to) changes.push({ type: 'scale', module: id, from, to, cause: 'it was asked for' })
    if (disabled !== before.disabled.has(id)) {
      if (disabled) changes.push({ ...change(id, 'disabled', disabledCause(was)), from: 'enabled' })
      else if (was) changes.push({ ...change(id, 'enabled', 'it was enabled'), from: 'disabled' })
    }
  }
  return changes
}

function change(module: string, to: string, cause: string): ModuleChange {
  return { type: 'module', module, to, cause }
}

function disabledCause(was: CatalogEntry | undefined): string {
  return was ? 'it was disabled' : 'it had been disabled before'
}

/** What a user asked for, `2..4`; `default` is what the manifest says. */
function rangeOf({ scales }: Wanted, module: string): string {
  const scale = scales.get(module)
  return scale === undefined ? 'default' : `${scale.min}..${scale.max}`
}

function placeOf({ source }: CatalogEntry): string {
  return source.kind === 'folder' ? `the folder ${source.path}` : `the image ${source.reference}`
}

function modelsByModule({ models }: Wanted): Map<string, ModelDefinition[]> {
  const byModule = new Map<string, ModelDefinition[]>()
  for (const model of models.values()) {
    const known = byModule.get(model.module)
    if (known) known.push(model)
    else byModule.set(model.module, [model])
  }
  return byModule
}
