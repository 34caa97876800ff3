import { randomUUID } from 'node:crypto'
import { cp, mkdir, rename, rm, stat } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import { manifestFromImage, type ImageFacts } from '../catalog/image.ts'
import type { Config } from '../config/config.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { Store } from '../store/store.ts'
import type { DesiredSource } from './desired-source.ts'

/** Modules that a user adds by name: images, and folders that are copied into the modules folder. */
export interface AddedModulesOptions {
  readonly config: Config
  readonly store: Store
  readonly desired: DesiredSource
  /** Pulls the image when it is missing. Rejects with ENGINE_UNSUPPORTED on an engine without images. */
  readonly inspectImage: (reference: string, signal: AbortSignal) => Promise<ImageFacts>
  /** Is there a module of this id? */
  readonly exists: (id: string) => boolean
  /** Reads the modules folder now. */
  readonly rescan: () => Promise<void>
  readonly now: () => Date
}

const imageReference = /^[a-z0-9]+(?:[._:/-]+[a-zA-Z0-9]+|@sha256:[0-9a-f]{64})*$/

export class AddedModules {
  readonly #options: AddedModulesOptions

  constructor(options: AddedModulesOptions) {
    this.#options = options
  }

  /** Resolves with the id once the module is known and stays known. Nothing is kept of one that is refused. */
  async add(source: string, signal: AbortSignal): Promise<string> {
    if (/^(git@|git\+|https?:\/\/)/.test(source)) {
      throw new BerthError('REQUEST_INVALID', `Modules can't be added from ${source} yet; clone it and add the folder's path.`, { field: 'source' })
    }
    if (/^[./~]/.test(source)) return this.#addFolder(source)
    if (!imageReference.test(source)) {
      throw new BerthError('REQUEST_INVALID', `\`${source}\` is neither an image reference nor a path (which begins with / or ./).`, { field: 'source' })
    }
    return this.#addImage(source, signal)
  }

  async #addImage(reference: string, signal: AbortSignal): Promise<string> {
    const { store, desired, exists, now } = this.#options
    const manifest = await this.#readImage(reference, signal)
    const known = store.modules.list().find(({ id }) => id === manifest.id)
    if (!known && exists(manifest.id)) {
      const message = `The image ${reference} calls its module ${manifest.id}, and a module of that id is there already.`
      throw new BerthError('DEPENDENCY_CONFLICT', message, { module: manifest.id, remedy: `Rename or remove the other ${manifest.id} first.` })
    }
    store.modules.put({ id: manifest.id, source: { kind: 'image', reference }, addedAt: now().toISOString(), addedBy: 'api' })
    desired.setImage({ id: manifest.id, manifest })
    return manifest.id
  }

  async #readImage(reference: string, signal: AbortSignal) {
    const facts = await this.#options.inspectImage(reference, signal)
    return manifestFromImage(reference, facts, this.#options.config.moduleSettings)
  }

  /** Copied beside its final place and renamed, so that a half copy is never seen as a module. */
  async #addFolder(source: string): Promise<string> {
    const { config, store, exists, rescan, now } = this.#options
    const from = resolve(source)
    const id = basename(from)
    const found = await stat(from).catch(() => undefined)
    if (!found?.isDirectory()) {
      throw new BerthError('REQUEST_INVALID', `${source} is no folder on the machine where Berth runs.`, { field: 'source' })
    }
    if (exists(id)) throw new BerthError('DEPENDENCY_CONFLICT', `A module ${id} is there already.`, { module: id })
    const draft = join(config.modules, `.adding-${randomUUID()}`)
    const path = join(config.modules, id)
    try {
      await mkdir(config.modules, { recursive: true })
      await cp(from, draft, { recursive: true, errorOnExist: true })
      await rename(draft, path)
    } catch (error) {
      await rm(draft, { recursive: true, force: true })
      throw error
    }
    store.modules.put({ id, source: { kind: 'folder', path }, addedAt: now().toISOString(), addedBy: 'api' })
    await rescan()
    return id
  }

  /** Forgets an added module and deletes the copy that Berth made; a folder that a user put there is theirs. */
  async remove(id: string): Promise<void> {
    const { store, desired, rescan } = this.#options
    const added = store.modules.list().find((module) => module.id === id)
    if (!added) {
      const message = `Module ${id} is a folder that Berth did not put there: take it out of the modules folder yourself, or disable it.`
      throw new BerthError('FORBIDDEN', message, { module: id, remedy: `berth disable ${id}` })
    }
    store.modules.remove(id)
    store.disabled.set(id, false)
    if (added.source.kind === 'image') return desired.removeImage(id)
    await rm(added.source.path, { recursive: true, force: true })
    await rescan()
  }

  /** At the start: every added image gets its manifest back; one that can't be read is listed with its error. */
  async restore(signal: AbortSignal): Promise<void> {
    const { store, desired } = this.#options
    const images = store.modules.list().flatMap(({ id, source }) => (source.kind === 'image' ? [{ id, reference: source.reference }] : []))
    await Promise.all(
      images.map(async ({ id, reference }) => {
        try {
          const manifest = await this.#readImage(reference, signal)
          desired.setImage({ id, manifest: { ...manifest, id } })
        } catch (error) {
          desired.setImage({ id, source: reference, format: 'image', error: toBerthError(error) })
        }
      }),
    )
  }
}
