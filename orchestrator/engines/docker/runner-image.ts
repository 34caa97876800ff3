import { setTimeout as delay } from 'node:timers/promises'
import type { PrepareProgress } from '../engine.ts'
import { labels } from '../labels.ts'
import { SharedWork } from '../shared-work.ts'
import { entriesArchive, folderArchive } from './archive.ts'
import { hashTree } from './build-context.ts'
import type { Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import type { Ignored } from './dockerignore.ts'
import type { Images, Report } from './images.ts'
import { inside } from './inside.ts'
import { names } from './names.ts'
import { readFileOf } from './read-archive.ts'
import { identityOf, ignoreRefusal, type MountedVolume, type Volumes } from './volumes.ts'

/**
 * The module runner as a volume that is mounted into every module container. It is filled once from the runner's image,
 * which is built from this repository or named by `runnerImage`. All instances share it: its name says its content.
 */
export interface RunnerVolume {
  readonly name: string
  readonly imageId: string
}

export interface RunnerOptions {
  readonly daemon: Daemon
  readonly images: Images
  readonly volumes: Volumes
  readonly repositoryRoot: string
  readonly runnerImage?: string | undefined
}

const marker = '.berth-complete'
const dockerfile = 'module-runner/Dockerfile'
/** A container that fills the volume and is older than this was left by somebody who died. */
const fillMs = 300_000
const oldMs = 7 * 24 * 60 * 60 * 1000

export class Runner {
  readonly #options: RunnerOptions
  readonly #work = new SharedWork<PrepareProgress, RunnerVolume & { cached: boolean }>()
  #known: { readonly volume: RunnerVolume; readonly identity: string | undefined } | undefined

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  /** What is there, as far as this process knows. */
  get current(): RunnerVolume | undefined {
    return this.#known?.volume
  }

  /** Rejects with IMAGE_UNAVAILABLE when there is no runner image and none can be made. */
  async ensure(signal: AbortSignal, report: Report): Promise<RunnerVolume & { readonly cached: boolean }> {
    if (this.#known?.identity !== undefined) {
      const { volume, identity } = this.#known
      const found = await this.#options.volumes.find(volume.name, signal)
      if (found !== undefined && identityOf(found) === identity) return { ...volume, cached: true }
    }
    return await this.#work.run('runner', signal, report, (cancelled, tell) => this.#make(cancelled, tell))
  }

  /** Removes the volumes of earlier runners that nothing uses: a week old, so that no other orchestrator just made them. */
  async prune(): Promise<void> {
    const { daemon, volumes } = this.#options
    for (const { Name, CreatedAt } of await daemon.listVolumes({ label: [`${labels.role}=runner`] })) {
      const ageMs = Date.now() - Date.parse(CreatedAt ?? '')
      if (Name !== this.#known?.volume.name && ageMs > oldMs) await volumes.remove(Name)
    }
  }

  async #make(signal: AbortSignal, report: Report): Promise<RunnerVolume & { cached: boolean }> {
    const { images, volumes, runnerImage } = this.#options
    const { image, cached } =
      runnerImage === undefined ? await this.#build(signal, report) : await images.ensure(runnerImage, signal, report)
    const name = names.runner(image.id)
    const filled = await this.#fill(name, image.id, signal)
    const state = await volumes.find(name, signal)
    const identity = state === undefined ? undefined : identityOf(state)
    this.#known = { volume: { name, imageId: image.id }, identity }
    return { name, imageId: image.id, cached: cached && !filled }
  }

  async #build(signal: AbortSignal, report: Report) {
    const { images, repositoryRoot } = this.#options
    const hash = await hashTree(repositoryRoot, notOfRunner)
    const order = () => ({
      context: folderArchive(repositoryRoot, { module: 'runner', prefix: '', exclude: notOfRunner }),
      dockerfile,
      labels: { [labels.role]: 'runner' },
    })
    return await images.ensureBuilt(`berth/runner:${hash}`, order, signal, report)
  }

  /** True when it had to be filled. The daemon copies the image's files when the first container with it is made. */
  async #fill(name: string, imageId: string, signal: AbortSignal): Promise<boolean> {
    const { daemon, volumes } = this.#options
    const volume: MountedVolume = { name, target: inside.runner, copy: true, labels: { [labels.role]: 'runner' } }
    const lock = `${name}-fill`
    for (;;) {
      const existed = (await volumes.find(name, signal)) !== undefined
      try {
        const outcome = await volumes.withHelper(
          imageId,
          [volume],
          async (container) => {
            const path = `${inside.runner}/${marker}`
            if ((await readFileOf(daemon, container, path, signal)) !== undefined) return 'complete'
            if (existed) return 'broken'
            const content = entriesArchive([{ name: marker, content: imageId }])
            await daemon.putArchive(container, inside.runner, content, signal)
            return 'filled'
          },
          signal,
          lock,
        )
        if (outcome !== 'broken') return outcome === 'filled'
        // Somebody died while it was being filled: nobody can be using it.
        await volumes.remove(name)
      } catch (error) {
        if (!isRefusal(error, 409)) throw error
        await this.#waitForOther(lock, signal)
      }
    }
  }

  async #waitForOther(lock: string, signal: AbortSignal): Promise<void> {
    const { daemon } = this.#options
    try {
      const { Id, Created } = await daemon.inspectContainer(lock, signal)
      if (Date.now() - Date.parse(Created) > fillMs) await daemon.removeContainer(Id)
    } catch (error) {
      ignoreRefusal(error)
      return
    }
    await delay(100, undefined, { signal })
  }
}

/** The runner's image is made of the lock file and `module-runner/`, and of nothing else of the repository. */
const notOfRunner: Ignored = (path) => {
  if (path === 'package.json' || path === 'package-lock.json' || path === 'module-runner') return false
  if (!path.startsWith('module-runner/')) return true
  return /(^|\/)(__pycache__|node_modules)(\/|$)|\.pyc$/.test(path)
}
