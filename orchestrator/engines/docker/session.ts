import { BerthError } from '../../domain/errors.ts'
import type { EngineCapabilities } from '../engine.ts'
import { labels } from '../labels.ts'
import { dockerCapabilities } from './capabilities.ts'
import { claimInstance } from './claim.ts'
import { connectionFrom } from './connection.ts'
import { Daemon } from './daemon.ts'
import { Environments } from './environments.ts'
import { ForeignContainers } from './foreign.ts'
import { findGpus } from './gpus.ts'
import { thisHolder } from './holder.ts'
import { ImageUsers } from './image-user.ts'
import { Images } from './images.ts'
import { Installer } from './installer.ts'
import { names } from './names.ts'
import { Networks } from './networks.ts'
import type { DockerEngineOptions } from './options.ts'
import { findReach, type Reach } from './reach.ts'
import { Runner } from './runner-image.ts'
import { ignoreRefusal, Volumes } from './volumes.ts'
import { Workloads } from './workloads.ts'

/** The parts of the engine on one connected daemon, joined. */
export interface Session {
  readonly daemon: Daemon
  readonly capabilities: EngineCapabilities
  readonly baseImage: string
  readonly images: Images
  readonly users: ImageUsers
  readonly runner: Runner
  readonly networks: Networks
  readonly environments: Environments
  readonly workloads: Workloads
  readonly foreign: ForeignContainers
  forget(module: string, options: { readonly data: boolean }): Promise<void>
  removeInstalls(): Promise<readonly string[]>
  close(): Promise<void>
}

const defaults = { baseImage: 'python:3.13-slim-trixie', subnets: ['10.213.0.0/16'], subnetPrefix: 28 }

/** Rejects with ENGINE_UNAVAILABLE. */
export async function openSession(options: DockerEngineOptions, signal: AbortSignal): Promise<Session> {
  const { instance, env, repositoryRoot, runnerImage } = options
  const { baseImage = defaults.baseImage, subnets = defaults.subnets, subnetPrefix = defaults.subnetPrefix } = options
  const connection = connectionFrom(env)
  const daemon = await Daemon.open(connection, signal)
  try {
    const info = await daemon.info(signal)
    const found = await findReach(daemon, connection, info, signal)
    const container = found.kind === 'join' ? found.container : undefined
    // Before anything of the instance is touched.
    const claim = await claimInstance(daemon, instance, await thisHolder(options.folder ?? '', container))
    const reach: Reach = options.reach === 'publish' ? { kind: 'publish', bind: '127.0.0.1', host: '127.0.0.1' } : found
    const local = found.kind === 'direct'
    await sweep(daemon, instance, signal)
    const { gpus, deviceGroups } = await findGpus({ daemon, info, local, probeImage: baseImage, instance }, signal)
    const drivers = (info.Plugins as { readonly Log?: readonly string[] } | undefined)?.Log ?? []
    const host = {
      init: daemon.version.init,
      cpus: Number(info.NCPU) || 1,
      localLogs: drivers.includes('local'),
      deviceGroups,
    }

    const images = new Images(daemon, env)
    const volumes = new Volumes(daemon, instance)
    const networks = new Networks({ daemon, instance, reach, subnets, subnetPrefix })
    const runner = new Runner({ daemon, images, volumes, repositoryRoot, runnerImage })
    const installer = new Installer({ daemon, instance, networks, host, env })
    const anyImage = async (): Promise<string | undefined> =>
      runner.current?.imageId ?? (await images.find(baseImage, AbortSignal.timeout(10_000)).catch(() => undefined))?.id
    const environments = new Environments({ daemon, volumes, installer, anyImage })
    const workloads = new Workloads({ daemon, instance, networks, reach, host })
    return {
      daemon,
      capabilities: dockerCapabilities(daemon, info, reach, gpus),
      baseImage,
      images,
      users: new ImageUsers(daemon, volumes),
      runner,
      networks,
      environments,
      workloads,
      foreign: new ForeignContainers({ daemon, instance, reach }),
      async forget(module, { data }) {
        await networks.forget(module)
        if (!data) return
        await images.forget([`${labels.instance}=${instance}`, `${labels.module}=${module}`])
        if (await volumes.remove(names.data(instance, module))) return
        throw new BerthError('MODULE_BUSY', `The data of module ${module} can't be removed: a container uses it`, {
          module,
          remedy: 'stop the module first (`berth disable`)',
        })
      },
      async removeInstalls() {
        const label = [`${labels.instance}=${instance}`, `${labels.role}=installer`]
        const found = await daemon.listContainers({ label })
        await Promise.all(found.map(({ Id }) => daemon.removeContainer(Id).catch(ignoreRefusal)))
        return found.map(({ Id, Names: [name = Id] }) => name.replace(/^\//, ''))
      },
      async close() {
        await Promise.all([environments.close(), images.close()])
        // Without it the next start finds by itself that this one has ended.
        await claim.release().catch(() => {})
        daemon.close()
      },
    }
  } catch (error) {
    daemon.close()
    throw error
  }
}

/** Removes what an earlier life of this orchestrator left half done: helpers, and installers that have ended. */
async function sweep(daemon: Daemon, instance: string, signal: AbortSignal): Promise<void> {
  const ours = `${labels.instance}=${instance}`
  const [helpers, installers] = await Promise.all([
    daemon.listContainers({ label: [ours, `${labels.role}=helper`] }, signal),
    daemon.listContainers({ label: [ours, `${labels.role}=installer`] }, signal),
  ])
  const ended = installers.filter(({ State }) => State !== 'running')
  await Promise.all([...helpers, ...ended].map(({ Id }) => daemon.removeContainer(Id).catch(ignoreRefusal)))
}
