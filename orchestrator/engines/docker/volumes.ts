import { labels } from '../labels.ts'
import { helperOptions } from './container-config.ts'
import type { Daemon, VolumeState } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'

/** A volume as a helper container sees it. */
export interface MountedVolume {
  readonly name: string
  readonly target: string
  /** Fill it, when it is empty, with what the image has at `target`. */
  readonly copy?: boolean
  /** For when this makes it. */
  readonly labels: Record<string, string>
}

/** What can be done with volumes through the daemon's API alone: no path of its disk is ever touched. */
export class Volumes {
  readonly #daemon: Daemon
  readonly #instance: string

  constructor(daemon: Daemon, instance: string) {
    this.#daemon = daemon
    this.#instance = instance
  }

  async find(name: string, signal?: AbortSignal): Promise<VolumeState | undefined> {
    try {
      return await this.#daemon.inspectVolume(name, signal)
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
  }

  /** Of this instance, by role. */
  ours(role: string): Promise<readonly VolumeState[]> {
    return this.#daemon.listVolumes({ label: [`${labels.instance}=${this.#instance}`, `${labels.role}=${role}`] })
  }

  /** False when a container uses it; true when it is gone. */
  async remove(name: string): Promise<boolean> {
    try {
      await this.#daemon.removeVolume(name)
      return true
    } catch (error) {
      if (isRefusal(error, 404)) return true
      if (isRefusal(error, 409)) return false
      throw error
    }
  }

  /**
   * Lends a container that is never started and has the volumes mounted: files go in and out of them through it.
   * `name` makes it a lock: while it exists, another of that name can't be made (refusal 409).
   */
  async withHelper<T>(
    imageId: string,
    volumes: readonly MountedVolume[],
    use: (container: string) => Promise<T>,
    signal: AbortSignal,
    name?: string,
  ): Promise<T> {
    const options = helperOptions(this.#instance, imageId, volumes)
    // Not with the signal: a container that is made after nobody listens any more would be left behind, with its lock.
    const container = await this.#daemon.createContainer(name, options)
    try {
      signal.throwIfAborted()
      return await use(container)
    } finally {
      await this.#daemon.removeContainer(container).catch(ignoreRefusal)
    }
  }
}

/**
 * A volume's time of creation, which tells it from a later one of the same name; undefined while it is so young that a
 * later one could have the same, since the daemon counts whole seconds.
 */
export function identityOf({ CreatedAt }: VolumeState): string | undefined {
  return CreatedAt !== undefined && Date.now() - Date.parse(CreatedAt) > 2_000 ? CreatedAt : undefined
}

/** A cleanup that is refused finds nothing to clean; what is left is swept at the next connect. */
export function ignoreRefusal(error: unknown): void {
  if (!isRefusal(error)) throw error
}
