import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import path from 'node:path'
import { text } from 'node:stream/consumers'

const entry = path.join(import.meta.dirname, '../../../orchestrator/cli/berth.ts')

export interface Finished {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

export interface CommandOptions {
  readonly url?: string
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly input?: string | Buffer
  /** Another program than the command itself, such as one with a stand-in for the orchestrator. */
  readonly program?: string
}

/** Starts the real command in a process of its own, with none of this machine's BERTH_ variables. */
export function start(args: readonly string[], options: CommandOptions = {}): ChildProcessWithoutNullStreams {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(BERTH|npm)_/.test(name))
  const env = {
    ...Object.fromEntries(inherited),
    ...(options.url === undefined ? {} : { BERTH_URL: options.url }),
    ...options.env,
  }
  const child = spawn(process.execPath, [options.program ?? entry, ...args], {
    env,
    cwd: options.cwd ?? import.meta.dirname,
    timeout: 30_000,
  })
  child.stdin.on('error', () => undefined)
  child.stdin.end(options.input)
  return child
}

export async function berth(args: readonly string[], options: CommandOptions = {}): Promise<Finished> {
  return finished(start(args, options))
}

export async function finished(child: ChildProcessWithoutNullStreams): Promise<Finished> {
  const code = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', resolve)
  })
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
  return { code: await code, stdout, stderr }
}
