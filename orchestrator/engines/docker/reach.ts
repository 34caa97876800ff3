import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { hostname, release } from 'node:os'
import type { Connection } from './connection.ts'
import type { Daemon, DaemonInfo } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'

/** How this process reaches the containers of the daemon. */
export type Reach =
  /** By their addresses: the daemon runs on this Linux machine. */
  | { readonly kind: 'direct' }
  /** By their addresses, once this process's own container is on their network. */
  | { readonly kind: 'join'; readonly container: string }
  /** By a published port: `bind` is an address of the daemon's machine, `host` how it is reached from here. */
  | { readonly kind: 'publish'; readonly bind: string; readonly host: string }

export async function findReach(
  daemon: Daemon,
  connection: Connection,
  info: DaemonInfo,
  signal: AbortSignal,
): Promise<Reach> {
  const self = await ownContainer(daemon, signal)
  if (self !== undefined) return self
  if (isHere(connection, info)) return { kind: 'direct' }
  if (connection.kind === 'unix') return { kind: 'publish', bind: '127.0.0.1', host: '127.0.0.1' }
  const { address } = await lookup(connection.host)
  return { kind: 'publish', bind: address, host: address }
}

/** The daemon shares this machine's network: then its bridges are this machine's. */
function isHere(connection: Connection, info: DaemonInfo): boolean {
  if (process.platform !== 'linux' || info.OperatingSystem === 'Docker Desktop') return false
  const options: readonly unknown[] = Array.isArray(info.SecurityOptions) ? info.SecurityOptions : []
  if (options.some((option) => String(option).startsWith('name=rootless'))) return false
  // A forwarded socket, and a virtual machine's, tell another kernel.
  if (info.KernelVersion !== release()) return false
  return connection.kind === 'unix' || info.Name === hostname()
}

/** The container that this process runs in, if it is one of this daemon's. */
async function ownContainer(daemon: Daemon, signal: AbortSignal): Promise<Reach | undefined> {
  if (process.platform !== 'linux') return undefined
  const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')
  const [mounts, groups] = await Promise.all([read('/proc/self/mountinfo'), read('/proc/self/cgroup')])
  for (const id of containerIds(mounts, groups, hostname())) {
    try {
      const { Id, HostConfig } = await daemon.inspectContainer(id, signal)
      return HostConfig.NetworkMode === 'host' ? { kind: 'direct' } : { kind: 'join', container: Id }
    } catch (error) {
      if (!isRefusal(error)) throw error
    }
  }
  return undefined
}

/** Ids that may be this process's container, surest first: the files that Docker mounts, the control group, the name. */
export function containerIds(mountinfo: string, cgroup: string, name: string): readonly string[] {
  const found = [
    ...mountinfo.matchAll(/\/containers\/([0-9a-f]{64})\/(?:hostname|hosts|resolv\.conf|userdata)/g),
    ...cgroup.matchAll(/\b([0-9a-f]{64})\b/g),
  ].map((match) => match[1] ?? '')
  return [...new Set([...found, ...(/^[0-9a-f]{12}$/.test(name) ? [name] : [])])]
}
