import type { ImageContext } from '../catalog/image.ts'
import type { Engine, ForeignWorkload } from '../engines/engine.ts'
import type { DesiredSource } from './desired-source.ts'
import { type ExternalModule, type ExternalReplica, readContainers } from './read-containers.ts'

/** Keeps the catalog in step with the containers that somebody else runs. Berth neither starts nor stops those. */
export interface ExternalModulesOptions {
  readonly engine: Pick<Engine, 'discover'>
  readonly desired: Pick<DesiredSource, 'setExternal'>
  /** Settings of modules, as they are now. */
  readonly context: () => ImageContext
}

export class ExternalModules {
  readonly #options: ExternalModulesOptions
  #found: readonly ForeignWorkload[] = []
  #modules: readonly ExternalModule[] = []

  constructor(options: ExternalModulesOptions) {
    this.#options = options
  }

  /** Looks what there is. Rejects while the engine can't be reached, and then nothing has changed. */
  async refresh(): Promise<void> {
    const found = await this.#options.engine.discover?.()
    if (found === undefined) return
    this.#found = found
    this.reread()
  }

  /** Settings have changed: what was found is read again. */
  reread(): void {
    this.#modules = readContainers(this.#found, this.#options.context())
    this.#options.desired.setExternal(this.#modules.map(({ entry }) => entry))
  }

  replicasOf(module: string): readonly ExternalReplica[] {
    return this.#modules.find(({ entry }) => entry.id === module)?.replicas ?? []
  }
}
