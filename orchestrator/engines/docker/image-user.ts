import type { Daemon } from './daemon.ts'
import type { ImageFacts } from './images.ts'
import { readFileOf } from './read-archive.ts'
import type { Volumes } from './volumes.ts'

/** Whom an image's own program runs as. Root goes by any name, so names are looked up in the image. */
export class ImageUsers {
  readonly #daemon: Daemon
  readonly #volumes: Volumes
  /** Image id to whether its named user is root; what an id names never changes. */
  readonly #rooted = new Map<string, boolean>()

  constructor(daemon: Daemon, volumes: Volumes) {
    this.#daemon = daemon
    this.#volumes = volumes
  }

  /** `USER` of the image; undefined when that is root, under whatever name. */
  async of({ id, user }: ImageFacts, signal: AbortSignal): Promise<string | undefined> {
    const name = user.split(':')[0] ?? ''
    if (name === '' || name === 'root' || Number(name) === 0) return undefined
    if (/^\d+$/.test(name)) return user
    const rooted = this.#rooted.get(id) ?? (await this.#isRoot(id, name, signal))
    this.#rooted.set(id, rooted)
    return rooted ? undefined : user
  }

  async #isRoot(imageId: string, name: string, signal: AbortSignal): Promise<boolean> {
    const read = (container: string) => readFileOf(this.#daemon, container, '/etc/passwd', signal)
    const users = await this.#volumes.withHelper(imageId, [], read, signal)
    // Not a plain file: the daemon follows a link there, which is not looked at here, so the name may mean anybody.
    if (users === undefined) return true
    const entry = users.split('\n').find((line) => line.startsWith(`${name}:`))
    return Number(entry?.split(':')[2]) === 0
  }
}
