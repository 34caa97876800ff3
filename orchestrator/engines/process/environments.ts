import { randomUUID } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type EnvironmentMarker, markerName } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../domain/errors.ts'
import type { EnvironmentInfo, EnvironmentStore, PrepareProgress } from '../engine.ts'
import { environmentInfo, parseMarker } from '../environment-marker.ts'
import { SharedWork } from '../shared-work.ts'
import { lockFile, tryLock } from './exclusive-lock.ts'

/**
 * Installed environments in `<data>/environments/<key>`. One is complete when its marker is there, written last; a
 * folder without one is of an install that was killed, and is wiped before anybody uses it.
 */
export type Install = (
  folder: string,
  signal: AbortSignal,
  report: (progress: PrepareProgress) => void,
) => Promise<void>

export class Environments implements EnvironmentStore {
  readonly #folder: string
  readonly #inUse: () => ReadonlySet<string>
  readonly #installing = new SharedWork<PrepareProgress, EnvironmentMarker>()

  /** `inUse`: keys of the environments that workloads run on. */
  constructor(folder: string, inUse: () => ReadonlySet<string>) {
    this.#folder = folder
    this.#inUse = inUse
  }

  folderOf(key: string): string {
    return join(this.#folder, key)
  }

  /** Makes the folder, ends removals that were cut short, and removes what killed installs have left half. */
  async open(): Promise<void> {
    await mkdir(this.#folder, { recursive: true })
    const names = await readdir(this.#folder)
    const trash = names.filter((name) => name.startsWith('.removed-'))
    await Promise.all(trash.map((name) => rm(join(this.#folder, name), { recursive: true, force: true })))
    for (const key of names.filter(isKey)) await this.#removeHalf(key)
  }

  /** The marker of a complete environment. */
  async marker(key: string): Promise<EnvironmentMarker | undefined> {
    const text = await readFile(join(this.folderOf(key), markerName), 'utf8').catch(() => undefined)
    return text === undefined ? undefined : parseMarker(text, key)
  }

  /** The environment, installed now if it is not there: once, however many callers and processes ask. */
  async ensure(
    key: string,
    signal: AbortSignal,
    onProgress: (progress: PrepareProgress) => void,
    install: Install,
  ): Promise<{ readonly environment: EnvironmentInfo; readonly cached: boolean }> {
    signal.throwIfAborted()
    const present = await this.marker(key)
    if (present !== undefined) return { environment: environmentInfo(present), cached: true }
    const made = await this.#installing.run(key, signal, onProgress, (cancelled, report) =>
      this.#make(key, cancelled, report, install),
    )
    return { environment: environmentInfo(made), cached: false }
  }

  async list(): Promise<readonly EnvironmentInfo[]> {
    const names = await readdir(this.#folder).catch(() => [])
    const markers = await Promise.all(names.filter(isKey).map((name) => this.marker(name)))
    return markers.flatMap((marker) => (marker === undefined ? [] : [environmentInfo(marker)]))
  }

  async prune(keep: ReadonlySet<string>): Promise<readonly EnvironmentInfo[]> {
    const unused: EnvironmentInfo[] = []
    for (const environment of await this.list()) {
      if (keep.has(environment.key) || this.#inUse().has(environment.key)) continue
      await this.#remove(environment.key)
      unused.push(environment)
    }
    return unused
  }

  /** Ends installs under way. */
  async close(): Promise<void> {
    await this.#installing.close(new BerthError('SHUTTING_DOWN', 'Berth is shutting down'))
  }

  async #make(
    key: string,
    signal: AbortSignal,
    report: (progress: PrepareProgress) => void,
    install: Install,
  ): Promise<EnvironmentMarker> {
    const release = await lockFile(this.#lockOf(key), signal)
    try {
      const present = await this.marker(key) // another process may have made it while this one waited
      if (present !== undefined) return present
      await this.#remove(key)
      try {
        await install(this.folderOf(key), signal, report)
        const marker = await this.marker(key)
        if (marker !== undefined) return marker
        throw new BerthError('INTERNAL', `The installer ended well and left no ${markerName} in ${this.folderOf(key)}`)
      } catch (error) {
        await this.#remove(key)
        throw error
      }
    } finally {
      release()
    }
  }

  async #removeHalf(key: string): Promise<void> {
    const release = tryLock(this.#lockOf(key))
    if (release === undefined) return // it is being installed by somebody
    try {
      if ((await this.marker(key)) === undefined) await this.#remove(key)
    } finally {
      release()
    }
  }

  #lockOf(key: string): string {
    return join(this.#folder, `${key}.lock`)
  }

  /** Gone under its name at once, and removed from the disk after. */
  async #remove(key: string): Promise<void> {
    const removed = join(this.#folder, `.removed-${key}-${randomUUID()}`)
    try {
      await rename(this.folderOf(key), removed)
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return
      throw error
    }
    await rm(removed, { recursive: true, force: true, maxRetries: 3 })
  }
}

const isKey = (name: string): boolean => /^[0-9a-f]{16,}$/.test(name)
