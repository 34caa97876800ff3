import { realpath, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { CatalogEntry } from '../catalog/catalog.ts'
import { type ImageFacts, manifestFromImage } from '../catalog/image.ts'
import type { Config } from '../config/config.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { Store } from '../store/store.ts'
import type { DesiredSource } from './desired-source.ts'
import { moduleNotFound } from './model-routes.ts'

/** Modules that a user adds by name: images, and folders elsewhere on this machine, which stay where they are. */
export interface AddedModulesOptions {
  /** As it is now: it may change while Berth runs. */
  readonly config: () => Config
  readonly store: Store
  readonly desired: DesiredSource
  /** Pulls the image when it is missing. Rejects with ENGINE_UNSUPPORTED on an engine without images. */
  readonly inspectImage: (reference: string, signal: AbortSignal) => Promise<ImageFacts>
  /** Is there a module of this id? */
  readonly exists: (id: string) => boolean
  /** Rejects with why a folder is no module; nothing is watched or listed for it. */
  readonly check: (folder: string) => Promise<unknown>
  /** Reads the modules folder and these folders; resolves with what they hold. */
  readonly scan: (extraFolders: readonly string[]) => Promise<readonly CatalogEntry[]>
  readonly now: () => Date
}

const imageReference = /^[a-z0-9]+(?:[._:/-]+[a-zA-Z0-9]+|@sha256:[0-9a-f]{64})*$/

export class AddedModules {
  readonly #options: AddedModulesOptions
  /** Changes of the list of folders, one after the other: each scan is told the whole list. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: AddedModulesOptions) {
    this.#options = options
  }

  /** Resolves with the id once the module is known and stays known. Nothing is kept of one that is refused. */
  async add(source: string, signal: AbortSignal): Promise<string> {
    if (/^(git@|git\+|https?:\/\/)/.test(source)) {
      const message = `Modules can't be added from ${source} yet; clone it and add the folder's path.`
      throw new BerthError('REQUEST_INVALID', message, { field: 'source' })
    }
    if (/^[./~]/.test(source)) return this.#inTurn(() => this.#addFolder(resolve(source)))
    if (!imageReference.test(source)) {
      const message = `\`${source}\` is neither an image reference nor a path (which begins with / or ./).`
      throw new BerthError('REQUEST_INVALID', message, { field: 'source' })
    }
    return this.#addImage(source, signal)
  }

  async #addImage(reference: string, signal: AbortSignal): Promise<string> {
    const { store, desired, exists, now } = this.#options
    const manifest = await this.#readImage(reference, signal)
    const known = store.modules.list().find(({ id }) => id === manifest.id)
    if (known?.source.kind !== 'image' && exists(manifest.id)) {
      const message = `The image ${reference} calls its module ${manifest.id}, and a module of that id is there already.`
      const remedy = `Rename or remove the other ${manifest.id} first.`
      throw new BerthError('DEPENDENCY_CONFLICT', message, { module: manifest.id, remedy })
    }
    const source = { kind: 'image', reference } as const
    store.modules.put({ id: manifest.id, source, addedAt: now().toISOString(), addedBy: 'api' })
    desired.setImage({ id: manifest.id, source, manifest })
    return manifest.id
  }

  async #readImage(reference: string, signal: AbortSignal) {
    const config = this.#options.config()
    const { inspectImage } = this.#options
    const facts = await inspectImage(reference, signal)
    return manifestFromImage(reference, facts, { settings: config.moduleSettings, defaults: { queue: config.queue } })
  }

  async #addFolder(path: string): Promise<string> {
    const { config, store, check, scan, exists, now } = this.#options
    const found = await stat(path).catch(() => undefined)
    if (!found?.isDirectory()) {
      const message = `${path} is no folder on the machine where Berth runs.`
      throw new BerthError('REQUEST_INVALID', message, { field: 'source' })
    }
    if ((await realpath(dirname(path))) === (await realpath(config().modules).catch(() => undefined))) {
      const message = `${path} is in the modules folder: what is there is a module already, nothing has to be added.`
      throw new BerthError('REQUEST_INVALID', message, { field: 'source' })
    }
    await check(path)
    const before = this.extraFolders()
    const entries = await scan([...before, path])
    const entry = entries.find(({ source }) => source.kind === 'folder' && source.path === path)
    const taken = entry && store.modules.list().some(({ id, source }) => id === entry.id && source.kind === 'image')
    if (!entry?.manifest || taken) {
      await scan(before)
      if (entry?.error) throw entry.error
      const id = entry?.id ?? path
      throw new BerthError('DEPENDENCY_CONFLICT', `A module ${id} is there already.`, { module: id })
    }
    if (!exists(entry.id))
      throw new BerthError('INTERNAL', `Module ${entry.id} was read and is not listed.`, { module: entry.id })
    const source = { kind: 'folder', path } as const
    try {
      store.modules.put({ id: entry.id, source, addedAt: now().toISOString(), addedBy: 'api' })
    } catch (error) {
      // What can't be kept would be there until the next start only.
      await scan(before)
      throw error
    }
    return entry.id
  }

  /** Folders that were added by their path. */
  extraFolders(): readonly string[] {
    return this.#options.store.modules.list().flatMap(({ source }) => (source.kind === 'folder' ? [source.path] : []))
  }

  /** Forgets an added module; no folder of a user is ever deleted. */
  remove(id: string): Promise<void> {
    return this.#inTurn(() => this.#remove(id))
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  async #remove(id: string): Promise<void> {
    const { store, desired, scan, exists } = this.#options
    const added = store.modules.list().find((module) => module.id === id)
    // Two may want it gone: the first has had its turn.
    if (!added && !exists(id)) throw moduleNotFound(id)
    if (!added) {
      const message = `Module ${id} is a folder in the modules folder: take it out of there, or disable it.`
      throw new BerthError('FORBIDDEN', message, { module: id, remedy: `berth disable ${id}` })
    }
    store.modules.remove(id)
    store.disabled.set(id, false)
    store.scales.set(id, undefined)
    if (added.source.kind === 'image') desired.removeImage(id)
    else await scan(this.extraFolders())
  }

  /** At the start: every added image gets its manifest back; one that can't be read is listed with its error. */
  async restore(signal: AbortSignal): Promise<void> {
    const { store, desired } = this.#options
    await Promise.all(
      store.modules.list().map(async ({ id, source }) => {
        if (source.kind !== 'image') return
        try {
          const manifest = await this.#readImage(source.reference, signal)
          desired.setImage({ id, source, manifest: { ...manifest, id } })
        } catch (error) {
          desired.setImage({ id, source, error: toBerthError(error) })
        }
      }),
    )
  }
}
