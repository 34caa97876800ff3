import { defaultPort, runnerVariables } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../domain/errors.ts'
import type { Endpoint, ForeignWorkload } from '../engine.ts'
import { labels } from '../labels.ts'
import type { ContainerSummary, Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import { plainName } from './observer.ts'
import type { Reach } from './reach.ts'

/** The containers of somebody else that speak the runner protocol: found by label, looked at, never touched. */
export interface ForeignContainersOptions {
  readonly daemon: Daemon
  readonly instance: string
  readonly reach: Reach
}

/** What a container was made with, and keeps as long as it is there. */
interface Settings {
  readonly port: number
  readonly token?: string
}

const compose = {
  project: 'com.docker.compose.project',
  service: 'com.docker.compose.service',
  oneOff: 'com.docker.compose.oneoff',
} as const

/**
 * Whether a container with these labels is somebody else's module, and may be used by this instance. What Berth makes
 * itself, of whichever instance, is none: it may carry the protocol's label from its image, but has a role too.
 */
export function isForeign(marks: Readonly<Record<string, string>>, instance: string): boolean {
  if (marks[labels.protocol] === undefined) return false
  if (marks[labels.role] !== undefined || marks[labels.instance] !== undefined) return false
  // `docker compose run`: somebody's command in the service's image, not the service.
  if (marks[compose.oneOff] === 'True') return false
  return (marks[labels.for] || instance) === instance
}

export class ForeignContainers {
  readonly #options: ForeignContainersOptions
  #settings: ReadonlyMap<string, Settings> = new Map()

  constructor(options: ForeignContainersOptions) {
    this.#options = options
  }

  async list(): Promise<readonly ForeignWorkload[]> {
    const { daemon, instance } = this.#options
    const listed = await daemon.listContainers({ label: [labels.protocol] })
    const found = listed.filter(({ Labels }) => isForeign(Labels, instance))
    const ownNetworks = found.length > 0 ? await this.#ownNetworks() : undefined
    const settings = new Map<string, Settings>()
    const seen = await Promise.all(
      found.map(async (summary) => {
        const known = this.#settings.get(summary.Id) ?? (await this.#inspect(summary.Id))
        if (known === undefined) return undefined
        settings.set(summary.Id, known)
        return this.#view(summary, known, ownNetworks)
      }),
    )
    this.#settings = settings
    return seen.filter((each) => each !== undefined)
  }

  #view(summary: ContainerSummary, { port, token }: Settings, own: ReadonlySet<string> | undefined): ForeignWorkload {
    const { Id, Names, Labels, Created, State, Image } = summary
    const container = plainName(Names[0] ?? Id)
    const group = groupOf(Labels)
    const endpoint = State === 'running' ? this.#endpoint(summary, port, own) : undefined
    return {
      id: Id,
      container,
      ...(group === undefined ? {} : { group }),
      image: Image,
      labels: Labels,
      createdMs: Created * 1000,
      state: stateOf(State),
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(State === 'running' && endpoint === undefined ? { problem: this.#unreachable(summary, port) } : {}),
      ...(token === undefined ? {} : { token }),
    }
  }

  #endpoint(summary: ContainerSummary, port: number, own: ReadonlySet<string> | undefined): Endpoint | undefined {
    const { reach } = this.#options
    const at = (host: string, reached = port): Endpoint => ({ kind: 'tcp', host, port: reached })
    const published = summary.Ports.find(({ PrivatePort, PublicPort }) => PrivatePort === port && PublicPort > 0)
    if (reach.kind === 'publish') return published && at(reach.host, published.PublicPort)
    const networks = Object.values(summary.NetworkSettings?.Networks ?? {})
    const network = networks.find(
      ({ IPAddress, NetworkID }) => IPAddress !== '' && (own === undefined || own.has(NetworkID)),
    )
    if (network !== undefined) return at(network.IPAddress)
    if (reach.kind === 'join') return undefined
    if (summary.HostConfig.NetworkMode === 'host') return at('127.0.0.1')
    return published && at('127.0.0.1', published.PublicPort)
  }

  #unreachable(summary: ContainerSummary, port: number): BerthError {
    const { reach } = this.#options
    const container = plainName(summary.Names[0] ?? summary.Id)
    const networks = Object.keys(summary.NetworkSettings?.Networks ?? {})
    const [why, remedy] =
      reach.kind === 'join'
        ? [
            `it is on no network of Berth's own container (${networks.join(', ') || 'it has none'})`,
            `name one network under both services in the compose file, or: docker network connect ${networks[0] ?? 'NETWORK'} ${reach.container.slice(0, 12)}. If another Berth is to use it, label it ${labels.for}=<the instance of that one>`,
          ]
        : reach.kind === 'publish'
          ? [`its port ${port} is not published`, `publish it, in a compose file as ports: ["127.0.0.1::${port}"]`]
          : ['it has no address of its own', `give it a network, or publish its port ${port}`]
    return new BerthError(
      'RUNNER_UNREACHABLE',
      `The container ${container} can't be reached: ${why}. To do: ${remedy}`,
      {
        container,
        remedy,
      },
    )
  }

  /** Networks that this process's container is on; undefined where every address of the machine is in reach. */
  async #ownNetworks(): Promise<ReadonlySet<string> | undefined> {
    const { daemon, reach } = this.#options
    if (reach.kind !== 'join') return undefined
    const { NetworkSettings } = await daemon.inspectContainer(reach.container)
    return new Set(Object.values(NetworkSettings.Networks).map(({ NetworkID }) => NetworkID))
  }

  /** Undefined when it has gone meanwhile. */
  async #inspect(id: string): Promise<Settings | undefined> {
    try {
      const { Config } = await this.#options.daemon.inspectContainer(id)
      return settingsOf(Config.Env ?? [])
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
  }
}

export function settingsOf(env: readonly string[]): Settings {
  const value = (name: string): string | undefined =>
    env.findLast((each) => each.startsWith(`${name}=`))?.slice(name.length + 1)
  const port = Number(value(runnerVariables.port))
  const token = value(runnerVariables.token)
  return {
    port: Number.isInteger(port) && port > 0 && port < 65_536 ? port : defaultPort,
    ...(token === undefined || token === '' ? {} : { token }),
  }
}

function groupOf(marks: Readonly<Record<string, string>>): string | undefined {
  const project = marks[compose.project]
  const service = marks[compose.service]
  return project === undefined || service === undefined ? undefined : `compose service ${project}/${service}`
}

function stateOf(state: string): ForeignWorkload['state'] {
  return state === 'running' || state === 'paused' || state === 'created' ? state : 'exited'
}
