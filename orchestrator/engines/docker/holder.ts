import { readFile, readlink } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'

/** An orchestrator as another one can look for it: one process, on one boot of one machine, perhaps in a container. */
export interface Holder {
  readonly host: string
  readonly pid: number
  /** When the process started, in ticks since the boot: tells it from a later one of the same number. */
  readonly started: string
  /** Of the machine, and of the process numbers. Empty where the system has no such thing. */
  readonly boot: string
  readonly namespace: string
  /** Id of its container on this daemon. */
  readonly container?: string
  /** What identifies its data folder. */
  readonly folder: string
}

export async function thisHolder(folder: string, container: string | undefined): Promise<Holder> {
  const [boot, namespace, started] = await Promise.all([bootId(), pidNamespace(), startOf(process.pid)])
  return {
    host: hostname(),
    pid: process.pid,
    started: started ?? '',
    boot,
    namespace,
    ...(container === undefined ? {} : { container }),
    folder,
  }
}

export function isSame(a: Holder, b: Holder): boolean {
  return (
    a.pid === b.pid && a.started === b.started && a.boot === b.boot && a.namespace === b.namespace && a.host === b.host
  )
}

/** For people. */
export function describeHolder({ host, pid, container }: Holder): string {
  return container === undefined ? `process ${pid} on ${host}` : `container ${container.slice(0, 12)}`
}

/** Whether an orchestrator still lives; `unknown` where it can't be seen from here. */
export async function findOut(other: Holder, self: Holder, daemon: Daemon): Promise<'alive' | 'dead' | 'unknown'> {
  if (other.boot === self.boot && other.namespace === self.namespace && other.host === self.host) {
    return (await startOf(other.pid)) === other.started ? 'alive' : 'dead'
  }
  // An earlier life of this very container.
  if (other.container !== undefined && other.container === self.container) return 'dead'
  if (other.container !== undefined) return await stateOfContainer(daemon, other.container)
  // The machine was started anew since.
  return other.host === self.host && self.container === undefined && other.boot !== self.boot ? 'dead' : 'unknown'
}

async function stateOfContainer(daemon: Daemon, id: string): Promise<'alive' | 'dead'> {
  try {
    return (await daemon.inspectContainer(id)).State.Running ? 'alive' : 'dead'
  } catch (error) {
    if (isRefusal(error, 404)) return 'dead'
    throw error
  }
}

/** Undefined: no such process. Where there is no /proc, that it is there has to do. */
async function startOf(pid: number): Promise<string | undefined> {
  if (process.platform !== 'linux') return exists(pid) ? '' : undefined
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  // proc(5): the 3rd field, after the command in brackets, is the state, and the 22nd the time of the start.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return stat === '' || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
}

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim()
}

async function pidNamespace(): Promise<string> {
  return await readlink('/proc/self/ns/pid').catch(() => '')
}
