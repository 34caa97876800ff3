import { setTimeout as delay } from 'node:timers/promises'
import { BerthError } from '../../domain/errors.ts'
import type { ObservedWorkload, Workload } from '../engine.ts'
import { labels } from '../labels.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import { folderArchive, moduleExclusions, writableFolders } from './archive.ts'
import { type HostFacts, type WorkloadParts, workloadOptions } from './container-config.ts'
import type { ContainerState, Daemon } from './daemon.ts'
import { isRefusal, refused } from './daemon-error.ts'
import { inside, moduleFolder } from './inside.ts'
import { names } from './names.ts'
import type { Networks } from './networks.ts'
import { gpusOf, Observer, plainName } from './observer.ts'
import type { Reach } from './reach.ts'
import { ignoreRefusal } from './volumes.ts'

/** The containers of modules: made, found by label, taken away. The daemon's list is the truth; nothing is kept here. */
export interface WorkloadsOptions {
  readonly daemon: Daemon
  readonly instance: string
  readonly networks: Networks
  readonly reach: Reach
  readonly host: HostFacts
}

/** What was prepared for a workload. */
export type PreparedParts = Omit<WorkloadParts, 'networkId' | 'publishAt' | 'gpus'>

/** With the devices of this start; the network is found then. */
export type StartParts = Omit<WorkloadParts, 'networkId' | 'publishAt'>

/** A grace may be without end. */
const longestTimer = 2_147_483_647

export class Workloads {
  readonly #options: WorkloadsOptions
  readonly #observer: Observer
  /** The last start under way of each replica: starts of one replica id come one after the other. */
  readonly #starting = new Map<string, Promise<unknown>>()

  constructor(options: WorkloadsOptions) {
    this.#options = options
    this.#observer = new Observer(options)
  }

  async start(spec: WorkloadSpec, parts: StartParts, signal: AbortSignal): Promise<Workload> {
    const before = this.#starting.get(spec.replica)
    const mine = (async () => {
      await before?.catch(() => undefined)
      return await this.#start(spec, parts, signal)
    })()
    this.#starting.set(spec.replica, mine)
    try {
      return await mine
    } catch (error) {
      if (signal.aborted) throw signal.reason
      throw isRefusal(error) ? refused(error, 'start', spec.module) : error
    } finally {
      if (this.#starting.get(spec.replica) === mine) this.#starting.delete(spec.replica)
    }
  }

  async #start(spec: WorkloadSpec, parts: StartParts, signal: AbortSignal): Promise<Workload> {
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted()
      try {
        return await this.#startNew(spec, parts, signal)
      } catch (error) {
        if (attempt >= 5 || !isRefusal(error)) throw error
        if (error.status === 409) {
          const running = await this.#makeRoom(spec, signal)
          if (running !== undefined) return running
        } else if (error.status === 404 && /network/i.test(error.message)) {
          this.#options.networks.recheck()
        } else if (error.status === 404 && /image/i.test(error.message)) {
          throw new BerthError('IMAGE_UNAVAILABLE', `The image of module ${spec.module} is gone: ${error.message}`, {
            module: spec.module,
            remedy: 'start the module again: the image is then pulled or built again',
          })
        } else throw error
      }
    }
  }

  async #startNew(spec: WorkloadSpec, parts: StartParts, signal: AbortSignal): Promise<Workload> {
    const { daemon, networks, reach, host, instance } = this.#options
    const networkId = await networks.ofModule(spec.module, spec.network, signal)
    const all = { ...parts, networkId, ...(reach.kind === 'publish' ? { publishAt: reach.bind } : {}) }
    // Not with the signal: a container that is made after nobody listens any more would be left behind.
    const id = await daemon.createContainer(names.container(instance, spec.replica), workloadOptions(spec, all, host))
    try {
      signal.throwIfAborted()
      await Promise.all([
        networks.join(networkId),
        ...(parts.runnerVolume === undefined ? [] : this.#fill(id, spec, signal)),
      ])
      await daemon.startContainer(id, signal)
      const state = await daemon.inspectContainer(id, signal)
      return {
        id,
        endpoint: await this.#observer.endpoint(state, spec.module),
        container: plainName(state.Name),
        gpus: parts.gpus.map((gpu) => gpu.id),
      }
    } catch (error) {
      await this.remove(id)
      throw error
    }
  }

  /** The module's files, owned by root; its data and the model cache, where it may write. */
  #fill(id: string, spec: WorkloadSpec, signal: AbortSignal): Promise<void>[] {
    const { daemon } = this.#options
    const prefix = moduleFolder(spec.module).slice(inside.modules.length + 1)
    const module =
      spec.folder === undefined
        ? writableFolders(prefix)
        : folderArchive(spec.folder, { module: spec.module, prefix, exclude: moduleExclusions })
    return [
      daemon.putArchive(id, inside.modules, module, signal),
      daemon.putArchive(id, inside.dataMount, writableFolders('module', 'module/home'), signal),
      daemon.putArchive(id, inside.cacheMount, writableFolders('models'), signal),
    ]
  }

  /** Something has the name: answers it when it is what is wanted, and removes it when it is ours and is not. */
  async #makeRoom(spec: WorkloadSpec, signal: AbortSignal): Promise<Workload | undefined> {
    const { daemon, instance } = this.#options
    const name = names.container(instance, spec.replica)
    let found: ContainerState
    try {
      found = await daemon.inspectContainer(name, signal)
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
    const marks = found.Config.Labels
    if (marks[labels.instance] !== instance || marks[labels.replica] !== spec.replica) {
      throw new BerthError('ENGINE_UNAVAILABLE', `A container named ${name} is there that this Berth has not made`, {
        module: spec.module,
        container: name,
        remedy: `remove it with \`docker rm -f ${name}\``,
      })
    }
    const same = marks[labels.generation] === String(spec.generation) && marks[labels.specHash] === spec.specHash
    if (same && found.State.Running && !found.State.Paused) {
      return {
        id: found.Id,
        endpoint: await this.#observer.endpoint(found, spec.module),
        container: name,
        gpus: gpusOf(marks),
      }
    }
    await this.remove(found.Id)
    return undefined
  }

  /** SIGTERM, after the grace SIGKILL; resolves when it is gone. What is not ours is not touched. */
  async stop(id: string, graceMs: number): Promise<void> {
    const { daemon } = this.#options
    const found = await this.#own(id)
    if (found === undefined) return
    if (found.State.Paused) await daemon.unpause(found.Id).catch(ignoreRefusal)
    if (found.State.Running && graceMs > 0) {
      await daemon.kill(found.Id, 'SIGTERM').catch(ignoreRefusal)
      const grace = AbortSignal.timeout(Math.min(graceMs, longestTimer))
      await daemon.wait(found.Id, 'not-running', grace).catch((error: unknown) => {
        if (!grace.aborted) ignoreRefusal(error)
      })
    }
    await this.remove(found.Id)
  }

  /** Resolves when it is gone, with its anonymous volumes. */
  async remove(id: string): Promise<void> {
    const { daemon } = this.#options
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await daemon.removeContainer(id)
      } catch (error) {
        if (isRefusal(error, 404)) return
        if (!isRefusal(error) || attempt >= 10) throw error
        if (error.status === 409 && /in progress/i.test(error.message)) {
          await daemon.wait(id, 'removed', AbortSignal.timeout(60_000)).catch(ignoreRefusal)
        } else await delay(200 * attempt)
      }
    }
  }

  async list(): Promise<readonly ObservedWorkload[]> {
    const { daemon, instance } = this.#options
    const label = [`${labels.instance}=${instance}`, `${labels.role}=workload`]
    const found = await daemon.listContainers({ label })
    const seen = await Promise.all(found.map((each) => this.#observer.observe(each)))
    return seen.filter((each) => each !== undefined)
  }

  /** Undefined when it is not there or not a workload of this instance. */
  async #own(id: string): Promise<ContainerState | undefined> {
    if (!/^[\w.-]+$/.test(id)) return undefined
    try {
      const found = await this.#options.daemon.inspectContainer(id)
      const marks = found.Config.Labels ?? {}
      return marks[labels.instance] === this.#options.instance && marks[labels.role] === 'workload' ? found : undefined
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
  }
}
