import { setTimeout as delay } from 'node:timers/promises'
import type { InstallOrder } from '../../../module-runner/protocol.ts'
import type { BerthError } from '../../domain/errors.ts'
import { InstallerOutput } from '../installer-output.ts'
import { labels } from '../labels.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import { entriesArchive, folderArchive, moduleExclusions, writableFolders } from './archive.ts'
import { type HostFacts, installerOptions } from './container-config.ts'
import type { ContainerState, Daemon } from './daemon.ts'
import { isRefusal, refused } from './daemon-error.ts'
import { hostEnvironment } from './host-files.ts'
import type { Report } from './images.ts'
import { inside, moduleFolder } from './inside.ts'
import { timedLines } from './logs.ts'
import { names } from './names.ts'
import type { Networks } from './networks.ts'
import type { RunnerVolume } from './runner-image.ts'
import { ignoreRefusal } from './volumes.ts'

/** One install: which environment, on which image, for whom. */
export interface InstallJob {
  readonly spec: WorkloadSpec
  readonly key: string
  readonly imageId: string
  readonly runner: RunnerVolume
  readonly gpu: InstallOrder['gpu']
}

export interface InstallerOptions {
  readonly daemon: Daemon
  readonly instance: string
  readonly networks: Networks
  readonly host: HostFacts
  /** Proxies, index and certificates are taken from here. */
  readonly env: Readonly<Record<string, string | undefined>>
}

/** An installer of somebody else that was made and not started, or has ended and was not removed: after this, they died. */
const abandonedMs = 60_000
const longestTimer = 2_147_483_647

/**
 * Runs installers as one-shot containers. Their name is the lock: of one environment there is never more than one, also
 * between orchestrators.
 */
export class Installer {
  readonly #options: InstallerOptions

  constructor(options: InstallerOptions) {
    this.#options = options
  }

  /**
   * `done`: this installer did the work. `unknown`: somebody else's installer was there, or somebody else removed this
   * one: the volume tells what came of it. Rejects with REQUIREMENTS_FAILED, or with the signal's reason once the
   * container is gone.
   */
  async run(job: InstallJob, signal: AbortSignal, report: Report): Promise<'done' | 'unknown'> {
    const { daemon } = this.#options
    const limit = AbortSignal.timeout(Math.min(job.spec.installTimeoutMs, longestTimer))
    const both = AbortSignal.any([signal, limit])
    const output = new InstallerOutput(job.key, report)
    let container: string | undefined
    try {
      container = await this.#create(job, both)
      if (container === undefined) {
        await this.#waitForOther(job.key, both, output)
        return 'unknown'
      }
      await this.#fill(container, job, both)
      both.throwIfAborted()
      await daemon.startContainer(container, both)
      const code = await this.#follow(container, both, output)
      if (code === undefined) return 'unknown'
      if (code === 0) return 'done'
      throw failure(job, output, code === 137 ? 'SIGKILL (out of memory?)' : `exit code ${code}`)
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (limit.aborted) throw failure(job, output, 'its time limit', job.spec.installTimeoutMs)
      throw isRefusal(error) ? refused(error, 'install the requirements of', job.spec.module) : error
    } finally {
      if (container !== undefined) await daemon.removeContainer(container).catch(ignoreRefusal)
    }
  }

  /** Undefined when there is an installer of this environment already. */
  async #create(job: InstallJob, signal: AbortSignal): Promise<string | undefined> {
    const { daemon, networks, host, env } = this.#options
    const { spec, key } = job
    const [networkId, { env: variables }] = await Promise.all([networks.ofInstallers(signal), hostEnvironment(env)])
    const order: InstallOrder = {
      key,
      folder: inside.environment,
      module: moduleFolder(spec.module),
      ...(spec.requirements.file === undefined ? {} : { file: spec.requirements.file }),
      extra: [...spec.requirements.extra],
      ...(spec.python === undefined ? {} : { python: spec.python }),
      gpu: job.gpu,
      cache: inside.downloads,
    }
    const parts = { imageId: job.imageId, runnerVolume: job.runner.name, networkId, order, env: variables }
    try {
      // Not with the signal: a container that is made after nobody listens any more would be left behind.
      return await daemon.createContainer(names.installer(key), installerOptions(spec, parts, host))
    } catch (error) {
      if (isRefusal(error, 409)) return undefined
      if (isRefusal(error, 404) && /network/i.test(error.message)) networks.recheck()
      throw error
    }
  }

  async #fill(container: string, { spec }: InstallJob, signal: AbortSignal): Promise<void> {
    const { daemon, env } = this.#options
    const { files } = await hostEnvironment(env)
    const prefix = moduleFolder(spec.module).slice(inside.modules.length + 1)
    const module =
      spec.folder === undefined
        ? writableFolders(prefix)
        : folderArchive(spec.folder, { module: spec.module, prefix, exclude: moduleExclusions })
    const scratch = entriesArchive([
      { name: 'host' },
      ...files,
      { name: 'tmp', owner: inside.uid },
      { name: 'tmp/home', owner: inside.uid },
    ])
    await Promise.all([
      daemon.putArchive(container, inside.modules, module, signal),
      daemon.putArchive(container, inside.scratchMount, scratch, signal),
      daemon.putArchive(container, inside.environmentMount, writableFolders('env'), signal),
      daemon.putArchive(container, inside.downloadsMount, writableFolders('cache'), signal),
    ])
  }

  /** Passes the output on until the container has ended; resolves with its exit code, undefined when it was removed. */
  async #follow(container: string, signal: AbortSignal, output: InstallerOutput): Promise<number | undefined> {
    const { daemon } = this.#options
    try {
      const stream = await daemon.logs(container, { follow: true, timestamps: true }, signal)
      try {
        for await (const { text } of timedLines(stream)) output.push(text)
      } finally {
        stream.destroy()
      }
      return await daemon.wait(container, 'not-running', signal)
    } catch (error) {
      if (isRefusal(error, 404, 409)) return undefined
      throw error
    }
  }

  /** Resolves when the installer that has the name is gone; one whose owner has died is removed. */
  async #waitForOther(key: string, signal: AbortSignal, output: InstallerOutput): Promise<void> {
    const { daemon, instance } = this.#options
    for (;;) {
      signal.throwIfAborted()
      const other = await this.#inspect(names.installer(key), signal)
      if (other === undefined) return
      // One of this instance is of an earlier life of this orchestrator: there is no other that looks after it.
      const ours = other.Config.Labels[labels.instance] === instance
      if (other.State.Running) {
        try {
          await this.#follow(other.Id, signal, output)
        } catch (error) {
          if (signal.aborted && ours) await daemon.removeContainer(other.Id).catch(ignoreRefusal)
          throw error
        }
      } else if (ours || Date.now() - lastSign(other) > abandonedMs) {
        await daemon.removeContainer(other.Id).catch(ignoreRefusal)
      } else await delay(200, undefined, { signal })
    }
  }

  async #inspect(name: string, signal: AbortSignal): Promise<ContainerState | undefined> {
    try {
      return await this.#options.daemon.inspectContainer(name, signal)
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
  }
}

/** When the container was made, or ended, whichever was later; milliseconds since the epoch. */
function lastSign({ Created, State }: ContainerState): number {
  return Math.max(...[Created, State.FinishedAt].map((time) => Date.parse(time)).filter((time) => !Number.isNaN(time)))
}

function failure({ spec }: InstallJob, output: InstallerOutput, ended: string, timeoutMs?: number): BerthError {
  return output.failure({
    module: spec.module,
    file: spec.requirements.file,
    remedy: 'read the lines, correct the requirements, and enable the module again',
    ended,
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  })
}
