import { type EnvironmentMarker, markerName } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../domain/errors.ts'
import type { EnvironmentInfo, EnvironmentStore, PrepareProgress } from '../engine.ts'
import { environmentInfo, parseMarker } from '../environment-marker.ts'
import { labels } from '../labels.ts'
import { SharedWork } from '../shared-work.ts'
import type { Daemon, VolumeState } from './daemon.ts'
import type { Report } from './images.ts'
import { inside } from './inside.ts'
import type { Installer, InstallJob } from './installer.ts'
import { names } from './names.ts'
import { readFileOf } from './read-archive.ts'
import { identityOf, type Volumes } from './volumes.ts'

/**
 * Installed environments, one volume a key, shared by all instances of the daemon. A volume counts only with its marker,
 * which the installer writes last; one without is of an install that was killed, and is removed before a new one.
 */
export interface EnvironmentsOptions {
  readonly daemon: Daemon
  readonly volumes: Volumes
  readonly installer: Installer
  /** Any image that is there, for a container to look into volumes with. */
  readonly anyImage: () => Promise<string | undefined>
}

/** A volume that has been seen complete, and which one it was. */
interface Known {
  readonly marker: EnvironmentMarker
  readonly identity: string
}

const marker = `${inside.environment.slice(inside.environmentMount.length + 1)}/${markerName}`

export class Environments implements EnvironmentStore {
  readonly #options: EnvironmentsOptions
  readonly #known = new Map<string, Known>()
  readonly #installing = new SharedWork<PrepareProgress, EnvironmentMarker>()

  constructor(options: EnvironmentsOptions) {
    this.#options = options
  }

  /** The environment, installed now when it is not there: once, however many callers and orchestrators ask. */
  async ensure(
    job: InstallJob,
    signal: AbortSignal,
    report: Report,
  ): Promise<{ readonly environment: EnvironmentInfo; readonly cached: boolean }> {
    const present = await this.#find(job.key, job.imageId, signal)
    if (present !== undefined) return { environment: environmentInfo(present), cached: true }
    const made = await this.#installing.run(job.key, signal, report, (cancelled, tell) =>
      this.#make(job, cancelled, tell),
    )
    return { environment: environmentInfo(made), cached: false }
  }

  /**
   * Whether the volume of an environment that was prepared is still there. The daemon makes an empty one, without labels,
   * of any name that a container wants to mount: that is none.
   */
  async isThere(key: string, signal: AbortSignal): Promise<boolean> {
    const volume = await this.#options.volumes.find(names.environment(key), signal)
    return volume?.Labels?.[labels.environment] === key
  }

  async list(): Promise<readonly EnvironmentInfo[]> {
    const complete = await this.#complete(await this.#options.volumes.ours('environment'))
    return complete.map(environmentInfo).sort((a, b) => (a.key < b.key ? -1 : 1))
  }

  /** Those that were made by this instance; those of others are theirs to remove. */
  async prune(keep: ReadonlySet<string>): Promise<readonly EnvironmentInfo[]> {
    const { volumes } = this.#options
    const ours = await volumes.ours('environment')
    const complete = await this.#complete(ours)
    const removed: EnvironmentInfo[] = []
    for (const each of complete) {
      if (keep.has(each.key) || !(await volumes.remove(names.environment(each.key)))) continue
      this.#known.delete(each.key)
      removed.push(environmentInfo(each))
    }
    const broken = ours.filter(({ Name }) => !complete.some(({ key }) => names.environment(key) === Name))
    // One that an installer is filling is in use, and stays.
    for (const { Name } of broken) await volumes.remove(Name)
    return removed
  }

  /** Ends installs under way. */
  async close(): Promise<void> {
    await this.#installing.close(new BerthError('SHUTTING_DOWN', 'Berth is shutting down'))
  }

  async #make(job: InstallJob, signal: AbortSignal, report: Report): Promise<EnvironmentMarker> {
    const { volumes, installer } = this.#options
    const name = names.environment(job.key)
    for (;;) {
      signal.throwIfAborted()
      const present = await this.#find(job.key, job.imageId, signal)
      if (present !== undefined) return present
      await volumes.remove(name)
      try {
        const outcome = await installer.run(job, signal, report)
        const made = await this.#find(job.key, job.imageId, signal)
        if (made !== undefined) return made
        if (outcome === 'unknown') continue
        throw new BerthError('INTERNAL', `The installer ended well and left no ${markerName}`, {
          module: job.spec.module,
        })
      } catch (error) {
        await volumes.remove(name)
        throw error
      }
    }
  }

  async #find(key: string, imageId: string, signal: AbortSignal): Promise<EnvironmentMarker | undefined> {
    const volume = await this.#options.volumes.find(names.environment(key), signal)
    if (volume === undefined) return undefined
    const known = this.#recall(key, volume)
    if (known !== undefined) return known
    const [found] = await this.#look([{ key, volume }], imageId, signal)
    return found
  }

  async #complete(found: readonly VolumeState[]): Promise<readonly EnvironmentMarker[]> {
    const all = found.flatMap((volume) => {
      const key = volume.Labels?.[labels.environment]
      return key === undefined ? [] : [{ key, volume }]
    })
    const known = all.flatMap(({ key, volume }) => this.#recall(key, volume) ?? [])
    const unknown = all.filter(({ key }) => !known.some((each) => each.key === key))
    const imageId = unknown.length === 0 ? undefined : await this.#options.anyImage()
    if (imageId === undefined) return known
    return [...known, ...(await this.#look(unknown, imageId, AbortSignal.timeout(60_000)))]
  }

  #recall(key: string, volume: VolumeState): EnvironmentMarker | undefined {
    const known = this.#known.get(key)
    return known !== undefined && known.identity === identityOf(volume) ? known.marker : undefined
  }

  /** Reads the markers of volumes, all through one container that is never started. */
  async #look(
    wanted: readonly { readonly key: string; readonly volume: VolumeState }[],
    imageId: string,
    signal: AbortSignal,
  ): Promise<readonly EnvironmentMarker[]> {
    const { daemon, volumes } = this.#options
    const mounts = wanted.map(({ volume }, index) => ({ name: volume.Name, target: `/berth-${index}`, labels: {} }))
    const look = async (container: string): Promise<readonly EnvironmentMarker[]> => {
      const found: EnvironmentMarker[] = []
      for (const [index, { key, volume }] of wanted.entries()) {
        const text = await readFileOf(daemon, container, `/berth-${index}/${marker}`, signal)
        const complete = text === undefined ? undefined : parseMarker(text, key)
        if (complete === undefined) continue
        const identity = identityOf(volume)
        if (identity !== undefined) this.#known.set(key, { marker: complete, identity })
        found.push(complete)
      }
      return found
    }
    return await volumes.withHelper(imageId, mounts, look, signal)
  }
}
