import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { tempFolder } from './temp-folder.ts'

const main = join(import.meta.dirname, '../../orchestrator/main.ts')

export interface FailedStart {
  readonly status: number | null
  /** What it wrote to standard error. */
  readonly said: string
}

export interface StartAttempt {
  readonly config?: string
  readonly env?: Readonly<Record<string, string>>
  /** Program and arguments to run it with, before Node's own. */
  readonly under?: readonly string[]
}

/** Starts an orchestrator that is expected to end by itself at once, and answers how it did. */
export async function failingStart({ config, env, under = [] }: StartAttempt): Promise<FailedStart> {
  const folder = tempFolder(config === undefined ? {} : { 'berth.yaml': config })
  const [program = process.execPath, ...args] = [...under, process.execPath, main]
  const child = spawn(program, args, {
    cwd: folder,
    env: { ...process.env, BERTH_ENGINE: 'process', BERTH_LISTEN: '127.0.0.1:0', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
    timeout: 60_000,
    killSignal: 'SIGKILL',
  })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const [status] = (await once(child, 'close')) as [number | null]
  return { status, said }
}
