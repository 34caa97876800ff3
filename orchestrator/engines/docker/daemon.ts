import { Agent as HttpAgent } from 'node:http'
import { Agent as HttpsAgent } from 'node:https'
import type { Duplex, Readable } from 'node:stream'
import { inspect } from 'node:util'
import type Docker from 'dockerode'
import { BerthError } from '../../domain/errors.ts'
import type { Connection } from './connection.ts'
import { fromVendor } from './daemon-error.ts'
import { compareApi, type DaemonVersion, readVersion } from './daemon-version.ts'
import type { RegistryAuth } from './registry-auth.ts'

/**
 * The daemon's API, one thin method a call: every one bounded in time, cancellable, and with errors of ours
 * (daemon-error.ts). Connections are kept alive.
 */

const quickMs = 60_000
const slowMs = 300_000

export type DaemonInfo = Readonly<Record<string, unknown>>
export type ContainerSummary = Docker.ContainerInfo
export type ContainerState = Docker.ContainerInspectInfo
export type ContainerOptions = Docker.ContainerCreateOptions
export type ImageState = Docker.ImageInspectInfo
export type NetworkState = Docker.NetworkInspectInfo
export type NetworkOptions = Docker.NetworkCreateOptions
export type VolumeState = Docker.VolumeInspectInfo & { readonly CreatedAt?: string }
/** Filter to its values, all of which must hold: `{label: ['a=b']}`. */
export type Filters = Readonly<Record<string, readonly string[]>>

interface Call {
  readonly query?: Readonly<Record<string, unknown>>
  readonly body?: object
  readonly file?: Readable
  readonly auth?: RegistryAuth | undefined
  readonly registries?: Readonly<Record<string, RegistryAuth>> | undefined
  readonly signal?: AbortSignal | undefined
  /** Limit of the whole call, of a stream until it begins. */
  readonly limitMs?: number | undefined
}

export class Daemon {
  readonly address: string
  readonly version: DaemonVersion
  readonly #docker: Docker
  readonly #agent: HttpAgent

  private constructor(address: string, version: DaemonVersion, docker: Docker, agent: HttpAgent) {
    this.address = address
    this.version = version
    this.#docker = docker
    this.#agent = agent
  }

  /** Connects and agrees on an API version. Rejects with ENGINE_UNAVAILABLE. */
  static async open(connection: Connection, signal: AbortSignal): Promise<Daemon> {
    const { default: Client } = await import('dockerode')
    const secure = connection.kind === 'tcp' && connection.tls !== undefined
    const agent = unprinted(secure ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true }))
    const client = (options: object): Docker =>
      new Client({ ...vendorOptions(connection), agent, ...options } as Docker.DockerOptions)
    try {
      const unknown = { engine: '', api: '', architecture: '', init: false }
      const stranger = new Daemon(connection.address, unknown, client({}), agent)
      const told = await stranger.#ask<unknown>('GET', '/version', { signal, limitMs: 20_000 })
      const version = readVersion(told, connection.address)
      return new Daemon(connection.address, version, client({ version: `v${version.api}` }), agent)
    } catch (error) {
      agent.destroy()
      throw error
    }
  }

  /** The API is at least this version. */
  speaks(api: string): boolean {
    return compareApi(this.version.api, api) >= 0
  }

  close(): void {
    this.#agent.destroy()
  }

  async ping(signal: AbortSignal): Promise<void> {
    await this.#ask('GET', '/_ping', { signal, limitMs: 5_000 })
  }

  info(signal: AbortSignal): Promise<DaemonInfo> {
    return this.#ask('GET', '/info', { signal })
  }

  // Images

  inspectImage(reference: string, signal: AbortSignal): Promise<ImageState> {
    return this.#ask('GET', `/images/${reference}/json`, { signal })
  }

  /** Progress, one JSON object a line (`PullEvent`). */
  pull(image: string, tag: string, auth: RegistryAuth | undefined, signal: AbortSignal): Promise<Readable> {
    return this.#stream('POST', '/images/create', { query: { fromImage: image, tag }, auth, signal })
  }

  /** A connection for the session of a build (`buildkit/`), which answers these gRPC methods. */
  async openSession(id: string, methods: readonly string[], signal: AbortSignal): Promise<Duplex> {
    const request = {
      method: 'POST',
      path: '/session',
      hijack: true,
      headers: {
        Upgrade: 'h2c',
        'X-Docker-Expose-Session-Uuid': id,
        'X-Docker-Expose-Session-Name': 'berth',
        'X-Docker-Expose-Session-Grpc-Method': methods,
      },
      statusCodes: { 200: true },
    }
    return await this.#bounded({ signal, limitMs: quickMs }, (abortSignal) => this.#send({ ...request, abortSignal }))
  }

  /** Builds an image from a context. The answer is its progress, one JSON object a line, the last with `error` if it failed. */
  build(order: BuildOrder, session: string, signal: AbortSignal): Promise<Readable> {
    const { context, tag, registries, ...rest } = order
    const query = { ...rest, t: tag, rm: true, forcerm: true, version: '2', session }
    return this.#stream('POST', '/build', { query, file: context, registries, signal })
  }

  async imagesWith(label: readonly string[]): Promise<readonly string[]> {
    const found = await this.#ask<readonly { Id: string }[]>('GET', '/images/json', { query: { filters: { label } } })
    return found.map(({ Id }) => Id)
  }

  async removeImage(id: string): Promise<void> {
    await this.#ask('DELETE', `/images/${id}`, { query: { force: false }, limitMs: slowMs })
  }

  // Containers

  async createContainer(name: string | undefined, options: ContainerOptions, signal?: AbortSignal): Promise<string> {
    const query = name === undefined ? {} : { name }
    const call = { query, body: options, signal, limitMs: slowMs }
    return (await this.#ask<{ Id: string }>('POST', '/containers/create', call)).Id
  }

  async startContainer(id: string, signal: AbortSignal): Promise<void> {
    await this.#ask('POST', `/containers/${id}/start`, { signal, limitMs: slowMs })
  }

  inspectContainer(id: string, signal?: AbortSignal): Promise<ContainerState> {
    return this.#ask('GET', `/containers/${id}/json`, { signal })
  }

  listContainers(filters: Filters, signal?: AbortSignal): Promise<readonly ContainerSummary[]> {
    return this.#ask('GET', '/containers/json', { query: { all: true, filters }, signal })
  }

  async kill(id: string, name: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    await this.#ask('POST', `/containers/${id}/kill`, { query: { signal: name } })
  }

  async unpause(id: string): Promise<void> {
    await this.#ask('POST', `/containers/${id}/unpause`)
  }

  /** Resolves with the exit code. Bounded by the signal only. */
  async wait(id: string, condition: 'not-running' | 'removed', signal: AbortSignal): Promise<number> {
    const call = { query: { condition }, signal, limitMs: undefined }
    return (await this.#ask<{ StatusCode?: number }>('POST', `/containers/${id}/wait`, call)).StatusCode ?? 0
  }

  /** With its anonymous volumes; kills it first. */
  async removeContainer(id: string): Promise<void> {
    await this.#ask('DELETE', `/containers/${id}`, { query: { force: true, v: true }, limitMs: slowMs })
  }

  /** A tar stream into a folder of the container, which must lie in a writable volume. */
  async putArchive(id: string, path: string, archive: Readable, signal: AbortSignal): Promise<void> {
    try {
      const call = { query: { path }, file: archive, signal, limitMs: undefined }
      await this.#ask('PUT', `/containers/${id}/archive`, call)
    } finally {
      archive.destroy()
    }
  }

  getArchive(id: string, path: string, signal: AbortSignal): Promise<Readable> {
    return this.#stream('GET', `/containers/${id}/archive`, { query: { path }, signal })
  }

  /** Multiplexed output (logs.ts). */
  logs(id: string, options: LogsQuery, signal: AbortSignal): Promise<Readable> {
    return this.#stream('GET', `/containers/${id}/logs`, { query: { stdout: true, stderr: true, ...options }, signal })
  }

  events(filters: Filters, signal: AbortSignal): Promise<Readable> {
    return this.#stream('GET', '/events', { query: { filters }, signal })
  }

  // Networks

  listNetworks(filters: Filters, signal?: AbortSignal): Promise<readonly NetworkState[]> {
    return this.#ask('GET', '/networks', { query: { filters }, signal })
  }

  async createNetwork(options: NetworkOptions): Promise<string> {
    return (await this.#ask<{ Id: string }>('POST', '/networks/create', { body: options })).Id
  }

  async connectNetwork(id: string, container: string, endpoint: object): Promise<void> {
    await this.#ask('POST', `/networks/${id}/connect`, { body: { Container: container, EndpointConfig: endpoint } })
  }

  async disconnectNetwork(id: string, container: string): Promise<void> {
    await this.#ask('POST', `/networks/${id}/disconnect`, { body: { Container: container, Force: true } })
  }

  async removeNetwork(id: string): Promise<void> {
    await this.#ask('DELETE', `/networks/${id}`)
  }

  // Volumes

  inspectVolume(name: string, signal?: AbortSignal): Promise<VolumeState> {
    return this.#ask('GET', `/volumes/${name}`, { signal })
  }

  async listVolumes(filters: Filters, signal?: AbortSignal): Promise<readonly VolumeState[]> {
    const answer = await this.#ask<{ Volumes?: readonly VolumeState[] | null }>('GET', '/volumes', {
      query: { filters },
      signal,
    })
    return answer.Volumes ?? []
  }

  /** Answers the one of that name where there is one, with the labels that it has. */
  createVolume(name: string, marks: Readonly<Record<string, string>>): Promise<VolumeState> {
    return this.#ask('POST', '/volumes/create', { body: { Name: name, Labels: marks } })
  }

  async removeVolume(name: string): Promise<void> {
    await this.#ask('DELETE', `/volumes/${name}`, { limitMs: slowMs })
  }

  #ask<T>(method: string, path: string, call: Call = {}): Promise<T> {
    const limitMs = 'limitMs' in call ? call.limitMs : quickMs
    return this.#bounded({ ...call, limitMs }, (signal) => this.#dial<T>(method, path, call, false, signal))
  }

  #stream(method: string, path: string, call: Call): Promise<Readable> {
    const limitMs = 'limitMs' in call ? call.limitMs : slowMs
    return this.#bounded({ ...call, limitMs }, (signal) => this.#dial<Readable>(method, path, call, true, signal))
  }

  #dial<T>(method: string, path: string, call: Call, isStream: boolean, abortSignal: AbortSignal): Promise<T> {
    const { query = {}, body = {}, file, auth, registries } = call
    const request = {
      path: Object.keys(query).length === 0 ? path : `${path}?`,
      method,
      options: { _query: query, _body: body },
      ...(file === undefined ? {} : { file }),
      ...(auth === undefined ? {} : { authconfig: { ...auth } }),
      ...(registries === undefined ? {} : { registryconfig: { ...registries } }),
      isStream,
      abortSignal,
      statusCodes: { 200: true, 201: true, 204: true, 304: true },
    }
    return this.#send<T>(request)
  }

  #send<T>(request: object): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#docker.modem.dial(request as Parameters<Docker['modem']['dial']>[0], (error, result) =>
        error ? reject(error) : resolve(result as T),
      )
    })
  }

  /** The signal holds until a stream is closed, the limit only until it begins. */
  async #bounded<T>(call: Pick<Call, 'signal' | 'limitMs'>, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, limitMs } = call
    signal?.throwIfAborted()
    const controller = new AbortController()
    const onAbort = (): void => controller.abort(signal?.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    const release = (): void => signal?.removeEventListener('abort', onAbort)
    const timer = limitMs === undefined ? undefined : setTimeout(() => controller.abort(this.#silent(limitMs)), limitMs)
    try {
      const result = await run(controller.signal)
      if (isStream(result)) result.once('close', release)
      else release()
      return result
    } catch (error) {
      release()
      throw controller.signal.aborted ? controller.signal.reason : fromVendor(error, this.address)
    } finally {
      clearTimeout(timer)
    }
  }

  #silent(limitMs: number): BerthError {
    return new BerthError('ENGINE_UNAVAILABLE', `Docker at ${this.address} did not answer within ${limitMs / 1000} s`, {
      address: this.address,
      remedy: 'see whether the daemon works (`docker ps`), and restart it if not',
    })
  }
}

export interface LogsQuery {
  readonly follow: boolean
  readonly timestamps: boolean
  /** Seconds since the epoch, with a fraction. */
  readonly since?: string
  readonly tail?: number
}

export interface BuildOrder {
  /** A tar stream. */
  readonly context: Readable
  readonly tag: string
  /** Path inside the context. */
  readonly dockerfile: string
  readonly labels: Readonly<Record<string, string>>
  readonly buildargs: Readonly<Record<string, string>>
  readonly registries: Readonly<Record<string, RegistryAuth>>
}

/** A line of a pull's progress. */
export interface PullEvent {
  readonly status?: string
  readonly id?: string
  readonly progressDetail?: { readonly current?: number; readonly total?: number }
}

/**
 * The library renders the options of every request for its debug output, wanted or not, with all that the agent holds: 100 ms
 * a request where twenty logs are followed.
 */
function unprinted<T extends HttpAgent>(agent: T): T {
  return Object.assign(agent, { [inspect.custom]: () => 'Agent' })
}

function isStream(value: unknown): value is Readable {
  return typeof value === 'object' && value !== null && 'pipe' in value && 'once' in value
}

function vendorOptions(connection: Connection): Docker.DockerOptions {
  // `host: undefined` keeps the library from reading DOCKER_HOST by itself.
  if (connection.kind === 'unix') return { host: undefined, socketPath: connection.socketPath, protocol: 'http' }
  const { host, port, tls } = connection
  return { host: host.includes(':') ? `[${host}]` : host, port, protocol: tls ? 'https' : 'http', ...tls }
}
