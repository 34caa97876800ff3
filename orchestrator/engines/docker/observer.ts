import { BerthError } from '../../domain/errors.ts'
import type { Endpoint, ObservedWorkload, WorkloadExit } from '../engine.ts'
import { labels } from '../labels.ts'
import type { ContainerState, ContainerSummary, Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import { inside } from './inside.ts'
import { containerLogs } from './logs.ts'
import type { Networks } from './networks.ts'
import type { Reach } from './reach.ts'
import { ignoreRefusal } from './volumes.ts'

/** What the daemon says of a container, in the words of the port: its state, how it is reached, how it ended. */
export interface ObserverOptions {
  readonly daemon: Daemon
  readonly networks: Networks
  readonly reach: Reach
}

const portKey = `${inside.port}/tcp`

export class Observer {
  readonly #options: ObserverOptions

  constructor(options: ObserverOptions) {
    this.#options = options
  }

  /** Undefined when it has gone meanwhile. */
  async observe(summary: ContainerSummary): Promise<ObservedWorkload | undefined> {
    const { Id, Labels, Names } = summary
    const state = states[summary.State] ?? 'exited'
    const endpoint = state === 'running' ? await this.#observedEndpoint(summary) : undefined
    const exit = state === 'exited' ? await this.#exit(Id) : undefined
    if (state === 'exited' && exit === undefined) return undefined
    return {
      id: Id,
      module: Labels[labels.module] ?? '',
      replica: Labels[labels.replica] ?? '',
      generation: Number(Labels[labels.generation]),
      specHash: Labels[labels.specHash] ?? '',
      state,
      ...(endpoint === undefined ? {} : { endpoint }),
      container: plainName(Names[0] ?? Id),
      gpus: gpusOf(Labels),
      ...(exit === undefined ? {} : { exit }),
    }
  }

  async #exit(id: string): Promise<WorkloadExit | undefined> {
    try {
      const { State } = await this.#options.daemon.inspectContainer(id)
      const signal = signals[State.ExitCode - 128]
      return {
        code: State.ExitCode,
        ...(signal === undefined ? {} : { signal }),
        // Also set when a child was killed and the module ended well later.
        ...(State.OOMKilled && State.ExitCode !== 0 ? { outOfMemory: true } : {}),
      }
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      throw error
    }
  }

  async #observedEndpoint({ Ports, NetworkSettings }: ContainerSummary): Promise<Endpoint | undefined> {
    const { networks, reach } = this.#options
    if (reach.kind === 'publish') {
      const port = Ports.find(({ PrivatePort, PublicPort }) => PrivatePort === inside.port && PublicPort !== undefined)
      return port === undefined ? undefined : { kind: 'tcp', host: reach.host, port: port.PublicPort }
    }
    const network = Object.values(NetworkSettings?.Networks ?? {}).find(({ IPAddress }) => IPAddress !== '')
    if (network === undefined) return undefined
    // A network that is just being removed: what is on it is not reached any more.
    await networks.join(network.NetworkID).catch(ignoreRefusal)
    return { kind: 'tcp', host: network.IPAddress, port: inside.port }
  }

  /** Rejects with WORKLOAD_EXITED when it has ended already: then there is none. */
  async endpoint(state: ContainerState, module: string): Promise<Endpoint> {
    const { reach } = this.#options
    const { Ports, Networks } = state.NetworkSettings
    if (reach.kind === 'publish') {
      const port = Number(Ports[portKey]?.[0]?.HostPort)
      if (port > 0) return { kind: 'tcp', host: reach.host, port }
    } else {
      const address = Object.values(Networks).find(({ IPAddress }) => IPAddress !== '')?.IPAddress
      if (address !== undefined) return { kind: 'tcp', host: address, port: inside.port }
    }
    const lines = await this.#lastLines(state.Id)
    const said = lines.length === 0 ? '' : `; its last line: ${lines.at(-1)}`
    throw new BerthError(
      'WORKLOAD_EXITED',
      `Module ${module} ended as soon as it was started, with exit code ${state.State.ExitCode}${said}`,
      {
        module,
        exitCode: state.State.ExitCode,
        lines,
        remedy: 'read the lines; an image module must stay in the foreground',
      },
    )
  }

  async #lastLines(id: string): Promise<readonly string[]> {
    const lines: string[] = []
    const options = { tail: 20, signal: AbortSignal.timeout(5_000) }
    for await (const { text } of containerLogs(this.#options.daemon, id, options)) lines.push(text)
    return lines
  }
}

const states: Readonly<Record<string, ObservedWorkload['state']>> = {
  created: 'created',
  running: 'running',
  restarting: 'running',
  paused: 'paused',
}

/** Exit codes above 128 say which signal ended the process. */
const signals: Readonly<Record<number, string>> = { 6: 'SIGABRT', 9: 'SIGKILL', 11: 'SIGSEGV', 15: 'SIGTERM' }

export const plainName = (name: string): string => name.replace(/^\//, '')

export function gpusOf(marks: Readonly<Record<string, string>>): readonly string[] {
  const text = marks[labels.gpus] ?? ''
  return text === '' ? [] : text.split(',')
}
