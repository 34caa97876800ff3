import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** What really runs of one Berth, seen without asking it: from Docker's list, or from the kernel's process table. */
export interface Seen {
  /** Container id, or process id. */
  readonly id: string
  readonly replica: string
  readonly generation: number
  /** `workload`, or what else it is: `helper`, `installer`. */
  readonly role: string
  readonly state: string
}

export interface SeenProcess {
  readonly pid: number
  readonly command: string
}

export type Program = 'runner' | 'worker'
const marks: Readonly<Record<Program, string>> = { runner: 'module-runner/server/main.ts', worker: 'berth_worker' }

export interface Sight {
  /** Everything of the instance, whatever its state. Rejects while the engine is away. */
  list(): Promise<readonly Seen[]>
  /** Processes of a workload as this machine numbers them. */
  processes(seen: Seen, program: Program): Promise<readonly SeenProcess[]>
}

export const isLive = ({ state }: Seen): boolean => state === 'running' || state === 'paused'

export function dockerSight(host: string | undefined, instance: () => string): Sight {
  const docker = async (...args: readonly string[]): Promise<string[]> => {
    const { stdout } = await run('docker', [...(host === undefined ? [] : ['--host', host]), ...args], {
      timeout: 20_000,
    })
    return stdout.split('\n').filter((line) => line !== '')
  }
  const label = (name: string): string => `{{.Label "dev.berth.${name}"}}`
  const format = ['{{.ID}}', label('replica'), label('generation'), label('role'), '{{.State}}'].join('\t')
  return {
    async list() {
      const filter = `label=dev.berth.instance=${instance()}`
      return (await docker('ps', '--all', '--no-trunc', '--filter', filter, '--format', format)).map((line) => {
        const [id = '', replica = '', generation = '', role = '', state = ''] = line.split('\t')
        return { id, replica, generation: Number(generation), role, state }
      })
    },
    async processes({ id }, program) {
      const lines = await docker('top', id, '-eo', 'pid,args').catch(() => [])
      return lines
        .slice(1)
        .map((line) => ({ pid: Number.parseInt(line, 10), command: line.trim() }))
        .filter(({ pid, command }) => pid > 0 && command.includes(marks[program]))
    },
  }
}

/** Each runner counts as one workload; what of the instance belongs to none of them has no replica. */
export function processSight(instance: () => string): Sight {
  const family = async () => {
    const found: { pid: number; command: string; replica: string; generation: number }[] = []
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue
      const variables = (await read(`/proc/${name}/environ`)).split('\0')
      if (!variables.includes(`BERTH_INSTANCE=${instance()}`) || (await hasEnded(name))) continue
      const of = (key: string): string => variables.find((each) => each.startsWith(`${key}=`))?.split('=')[1] ?? ''
      const command = (await read(`/proc/${name}/cmdline`)).replaceAll('\0', ' ')
      found.push({
        pid: Number(name),
        command,
        replica: of('BERTH_REPLICA'),
        generation: Number(of('BERTH_GENERATION')),
      })
    }
    return found
  }
  return {
    async list() {
      return (await family())
        .filter(({ command, replica }) => command.includes(marks.runner) || replica === '')
        .map(({ pid, replica, generation }) => ({
          id: String(pid),
          replica,
          generation,
          role: replica === '' ? 'other' : 'workload',
          state: 'running',
        }))
    },
    async processes(seen, program) {
      return (await family()).filter(
        ({ command, replica, generation }) =>
          replica === seen.replica && generation === seen.generation && command.includes(marks[program]),
      )
    },
  }
}

const read = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '')

async function hasEnded(pid: string): Promise<boolean> {
  const stat = await read(`/proc/${pid}/stat`)
  return stat === '' || /^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
}
