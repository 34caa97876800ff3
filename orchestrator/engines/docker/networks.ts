import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { BerthError } from '../../domain/errors.ts'
import { labels } from '../labels.ts'
import { untilAborted } from '../shared-work.ts'
import type { Daemon, NetworkOptions, NetworkState } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import { names } from './names.ts'
import type { Reach } from './reach.ts'
import { freeSubnets, parseRange, parseRoutes, type Range } from './subnets.ts'

/**
 * One network a module, so that modules can't reach each other, made once and kept while the module is. Each has a small
 * subnet of its own, because Docker's default pools hold about thirty networks.
 */
export interface NetworksOptions {
  readonly daemon: Daemon
  readonly instance: string
  readonly reach: Reach
  /** CIDR ranges to take subnets from. */
  readonly subnets: readonly string[]
  readonly subnetPrefix: number
}

interface Wanted {
  readonly name: string
  readonly marks: Readonly<Record<string, string>>
  readonly internal: boolean
  readonly prefix: number
  /** Containers on it may talk to each other. */
  readonly together: boolean
}

/** Room for a few dozen installers at once. */
const installPrefix = 26
const mostTries = 64

export class Networks {
  readonly #options: NetworksOptions
  readonly #made = new Map<string, Promise<string>>()
  readonly #joined = new Set<string>()
  readonly #forgetting = new Map<string, Promise<void>>()

  constructor(options: NetworksOptions) {
    this.#options = options
  }

  /** The id of a module's network, made when it is not there. */
  ofModule(module: string, policy: 'none' | 'egress', signal: AbortSignal): Promise<string> {
    const { instance, reach, subnetPrefix } = this.#options
    return this.#ensure(
      {
        name: names.network(instance, module, policy),
        marks: { [labels.module]: module },
        // A published port needs a network with a way out.
        internal: policy === 'none' && reach.kind !== 'publish',
        prefix: subnetPrefix,
        together: true,
      },
      signal,
    )
  }

  ofInstallers(signal: AbortSignal): Promise<string> {
    const name = names.installNetwork(this.#options.instance)
    const prefix = Math.min(installPrefix, this.#options.subnetPrefix)
    return this.#ensure({ name, marks: {}, internal: false, prefix, together: false }, signal)
  }

  /** Makes sure that this process reaches the containers on a network. */
  async join(id: string): Promise<void> {
    const { daemon, reach } = this.#options
    if (reach.kind !== 'join' || this.#joined.has(id)) return
    try {
      // Lowest priority: the way out of this process's container stays what it was.
      await daemon.connectNetwork(id, reach.container, daemon.speaks('1.48') ? { GwPriority: -100 } : {})
    } catch (error) {
      if (!isRefusal(error) || !/already exists|already attached|already connected/i.test(error.message)) throw error
    }
    this.#joined.add(id)
  }

  /** Makes it forget what it believes to exist; for when the daemon says that it does not. */
  recheck(): void {
    this.#made.clear()
    this.#joined.clear()
  }

  /** Removes the networks of a module. Rejects while containers are on them. */
  forget(module: string): Promise<void> {
    const underWay = this.#forgetting.get(module)
    if (underWay !== undefined) return underWay
    const forgetting = this.#forget(module).finally(() => this.#forgetting.delete(module))
    this.#forgetting.set(module, forgetting)
    return forgetting
  }

  async #forget(module: string): Promise<void> {
    const { daemon, instance } = this.#options
    for (const policy of ['none', 'egress'] as const) this.#made.delete(names.network(instance, module, policy))
    const label = [`${labels.instance}=${instance}`, `${labels.module}=${module}`]
    for (const network of await daemon.listNetworks({ label })) await this.#remove(network.Id)
  }

  async #remove(id: string): Promise<void> {
    const { daemon, reach } = this.#options
    if (reach.kind === 'join') {
      await daemon.disconnectNetwork(id, reach.container).catch((error: unknown) => {
        if (!isRefusal(error)) throw error
      })
      this.#joined.delete(id)
    }
    try {
      await daemon.removeNetwork(id)
    } catch (error) {
      if (!isRefusal(error, 404)) throw error
    }
  }

  #ensure(wanted: Wanted, signal: AbortSignal): Promise<string> {
    const made = this.#made.get(wanted.name)
    if (made !== undefined) return untilAborted(made, signal)
    // Quick, and kept whoever asked first: so a caller who leaves does not end it.
    const making = this.#find(wanted).then((id) => id ?? this.#create(wanted))
    this.#made.set(wanted.name, making)
    making.catch(() => this.#made.delete(wanted.name))
    return untilAborted(making, signal)
  }

  async #find(wanted: Wanted): Promise<string | undefined> {
    const { daemon, instance } = this.#options
    const found = await daemon.listNetworks({ name: [wanted.name] })
    const [same, ...more] = found.filter(({ Name }) => Name === wanted.name).sort(oldestFirst)
    if (same === undefined) return undefined
    if (same.Labels?.[labels.instance] !== instance) {
      throw new BerthError(
        'ENGINE_UNAVAILABLE',
        `A network named ${wanted.name} is there that this Berth has not made`,
        {
          network: wanted.name,
          remedy: `remove it with \`docker network rm ${wanted.name}\``,
        },
      )
    }
    // Docker allows two of one name when they are made at the same moment: the oldest is the one.
    for (const extra of more)
      if (extra.Labels?.[labels.instance] === instance) await this.#remove(extra.Id).catch(() => undefined)
    return same.Internal === wanted.internal ? same.Id : await this.#replace(same, wanted)
  }

  /** The daemon is reached another way than when the network was made. */
  async #replace(old: NetworkState, wanted: Wanted): Promise<undefined> {
    try {
      await this.#remove(old.Id)
    } catch (error) {
      if (!isRefusal(error)) throw error
      const remedy = 'stop the module (`berth disable`), then start it again'
      throw new BerthError(
        'ENGINE_UNAVAILABLE',
        `The network ${wanted.name} must be made anew and is in use`,
        { remedy },
        { cause: error },
      )
    }
  }

  async #create(wanted: Wanted): Promise<string> {
    const { daemon, subnets } = this.#options
    const ranges = subnets.flatMap((text) => parseRange(text) ?? [])
    const used = await this.#used()
    const seed = createHash('sha256').update(wanted.name).digest().readUInt32BE(0)
    let tries = 0
    for (const subnet of freeSubnets(ranges, wanted.prefix, used, seed)) {
      if (++tries > mostTries) break
      try {
        const id = await daemon.createNetwork(this.#settings(wanted, subnet))
        return (await this.#find(wanted)) ?? id
      } catch (error) {
        if (!isRefusal(error)) throw error
        if (error.status === 409) {
          const other = await this.#find(wanted)
          if (other !== undefined) return other
        } else if (!/overlap|conflict|pool/i.test(error.message)) throw error
      }
    }
    throw new BerthError(
      'ENGINE_UNAVAILABLE',
      `No subnet is free for the network ${wanted.name}: every /${wanted.prefix} of ${subnets.join(', ')} overlaps a route of this machine or another network of Docker`,
      {
        network: wanted.name,
        field: 'docker.subnets',
        remedy:
          'set `docker.subnets` in berth.yaml to a private range that this machine has no route to, such as 172.31.0.0/16',
      },
    )
  }

  #settings({ name, marks, internal, together }: Wanted, subnet: string): NetworkOptions {
    const { daemon, instance, reach } = this.#options
    // Without it the machine's own services stay in reach at the bridge's address.
    const isolated = internal && reach.kind === 'join' && daemon.speaks('1.48')
    return {
      Name: name,
      Driver: 'bridge',
      Internal: internal,
      IPAM: { Config: [{ Subnet: subnet }] },
      Labels: { [labels.instance]: instance, [labels.role]: 'network', ...marks },
      Options: {
        ...(together ? {} : { 'com.docker.network.bridge.enable_icc': 'false' }),
        ...(isolated ? { 'com.docker.network.bridge.gateway_mode_ipv4': 'isolated' } : {}),
      },
    }
  }

  async #used(): Promise<readonly Range[]> {
    const [networks, routes] = await Promise.all([
      this.#options.daemon.listNetworks({}),
      this.#options.reach.kind === 'publish' ? '' : readFile('/proc/net/route', 'utf8').catch(() => ''),
    ])
    const ofNetworks = networks
      .flatMap(({ IPAM }) => IPAM?.Config ?? [])
      .flatMap(({ Subnet }) => parseRange(Subnet ?? '') ?? [])
    return [...ofNetworks, ...parseRoutes(routes)]
  }
}

const oldestFirst = (a: NetworkState, b: NetworkState): number =>
  a.Created === b.Created ? (a.Id < b.Id ? -1 : 1) : a.Created < b.Created ? -1 : 1
