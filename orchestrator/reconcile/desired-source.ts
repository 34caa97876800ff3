import { type CatalogEntry, sameEntries } from '../catalog/catalog.ts'
import { resolveModels } from '../catalog/models.ts'
import type { Config } from '../config/config.ts'
import { BerthError } from '../domain/errors.ts'
import { type ModuleManifest, sourcePlace } from '../domain/manifest.ts'
import type { Store } from '../store/store.ts'
import type { DesiredState } from './supervisor.ts'

/** Folders, added images, configuration and the store's switches, put together to one desired state. */
export class DesiredSource {
  #config: Config
  readonly #store: Store
  readonly #onChange: (desired: DesiredState) => void
  #folders: readonly CatalogEntry[] = []
  readonly #images = new Map<string, CatalogEntry>()
  #external: readonly CatalogEntry[] = []
  /** A bad edit leaves a module at work as it was, its models included; its error shows beside it. */
  #lastGood: ReadonlyMap<string, ModuleManifest> = new Map()

  constructor(config: Config, store: Store, onChange: (desired: DesiredState) => void) {
    this.#config = config
    this.#store = store
    this.#onChange = onChange
  }

  setFolders(entries: readonly CatalogEntry[]): void {
    this.#folders = entries
    this.refresh()
  }

  setImage(entry: CatalogEntry): void {
    this.#images.set(entry.id, entry)
    this.refresh()
  }

  removeImage(id: string): void {
    this.#images.delete(id)
    this.refresh()
  }

  /** Modules of containers that somebody else runs. Called after every listing, so most often nothing has changed. */
  setExternal(entries: readonly CatalogEntry[]): void {
    if (sameEntries(entries, this.#external)) return
    this.#external = entries
    this.refresh()
  }

  /** Another configuration holds from now on: of models; settings of modules come with their manifests. */
  setConfig(config: Config): void {
    this.#config = config
    this.refresh()
  }

  /** Has the writers follow what was switched in the store. */
  refresh(): void {
    this.#onChange(this.#build())
  }

  #build(): DesiredState {
    // A folder wins over an image of the same id: adding such an image is refused, a later folder is the user's own act.
    const modules = new Map<string, CatalogEntry>(this.#images)
    for (const entry of this.#folders) modules.set(entry.id, entry)
    for (const entry of this.#external) {
      const holder = modules.get(entry.id)
      const listed = holder === undefined ? entry : outranked(entry, holder, new Set(modules.keys()))
      modules.set(listed.id, listed)
    }
    const broken = new Map<string, BerthError>()
    const good = new Map<string, ModuleManifest>()
    for (const { id, manifest, error } of modules.values()) {
      const last = manifest ?? this.#lastGood.get(id)
      if (last) good.set(id, last)
      else if (error) broken.set(id, error)
    }
    this.#lastGood = good
    const manifests = good.values()
    const { models, aliases, problems } = resolveModels(this.#config, manifests, broken)
    return {
      modules: [...modules.values()],
      models,
      aliases,
      modelErrors: problems,
      disabled: this.#store.disabled.list(),
      scales: this.#store.scales.list(),
    }
  }
}

/** Containers whose module has the id of a folder or of an added image, which goes on: listed beside it, with the error. */
function outranked(entry: CatalogEntry, holder: CatalogEntry, taken: ReadonlySet<string>): CatalogEntry {
  const [theirs, ours] = [sourcePlace(entry.source), sourcePlace(holder.source)]
  const remedy = 'Give one of them another id: in the label dev.berth.module, or in the module.yaml of the folder.'
  const error = new BerthError(
    'DEPENDENCY_CONFLICT',
    `The ${theirs} calls its module ${entry.id}, and ${ours} is the module ${entry.id} already: that one goes on, and the other is not used. ${remedy}`,
    { module: entry.id, sources: [ours, theirs], field: 'id', remedy },
  )
  let id = `${entry.id}-external`
  while (taken.has(id)) id = `${id}-`
  return { id, source: entry.source, error }
}
