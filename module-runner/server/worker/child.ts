import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { runnerVariables } from '../../constants.ts'
import { LastLines, readLines } from '../line-reader.ts'
import type { LogSink } from '../log-output.ts'
import type { WorkerExit } from './exit-cause.ts'
import { countMemoryKills } from './memory-events.ts'

/**
 * The worker's process: started in a process group of its own, its prints read as the module's log, its end explained, and
 * whatever it forked ended with it.
 */
export interface WorkerChild {
  readonly pid: number
  /** Resolves once, when the process has ended and what it printed has been read. */
  readonly exited: Promise<WorkerExit>
  /** SIGKILL for the worker and everything in its group; harmless when they are gone. */
  kill(): void
}

export interface ChildOptions {
  /** Interpreter: a path, or a name on the path. */
  readonly python: string
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly log: LogSink
}

/** `python3 <this folder>` is the worker. */
const workerFolder = fileURLToPath(new URL('../../python/berth_worker', import.meta.url))
const keptLines = 40
/** A forked child may hold the pipes open for ever: what the worker printed is there long before this. */
const outputMs = 300
/** The kernel takes the module before the runner when memory runs out. */
const moreLikelyKilled = '500'

/** Rejects when the interpreter can't be started, with the system's error. */
export async function startChild(options: ChildOptions): Promise<WorkerChild> {
  const killsBefore = await countMemoryKills()
  const child = spawn(options.python, ['-u', workerFolder], {
    cwd: options.cwd,
    env: { ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  const pid = child.pid ?? 0
  // Not waited for: whoever asked for the worker has to be ready before it connects.
  writeFile(`/proc/${pid}/oom_score_adj`, moreLikelyKilled).catch(() => {})
  const last = new LastLines(keptLines)
  const print = (level: 'info' | 'warning') => (line: string) => {
    last.push(line)
    options.log.write(level, 'module', line)
  }
  readLines(child.stdout, options.log, print('info'))
  readLines(child.stderr, options.log, print('warning'))

  let over = false
  const kill = () => {
    // Once the group is gone, its number may be somebody else's.
    if (!over) killGroup(pid)
  }
  const exited = ended(child).then(async ({ code, signal }): Promise<WorkerExit> => {
    kill()
    over = true
    await closed(child)
    child.stdout.destroy()
    child.stderr.destroy()
    const outOfMemory = signal === 'SIGKILL' && (await countMemoryKills()) > killsBefore
    return { code, signal, outOfMemory, lines: last.list() }
  })
  return { pid, exited, kill }
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** A negative process id means the whole group. */
function killGroup(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // Nobody of the group is left.
  }
}

function ended(child: ChildProcess): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })))
}

function closed(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    const limit = setTimeout(resolve, outputMs)
    child.once('close', () => {
      clearTimeout(limit)
      resolve()
    })
  })
}

/** What of the runner's own environment is none of the module's business. */
const ownVariables: readonly string[] = [...Object.values(runnerVariables), 'NODE_COMPILE_CACHE', 'NODE_OPTIONS']

/** The module's variables: the container's, without the runner's own, with places for homes and caches. */
export function moduleEnvironment(
  own: Readonly<Record<string, string | undefined>>,
  paths: { readonly data: string; readonly cache: string },
): Record<string, string> {
  const env: Record<string, string> = {
    HF_HOME: `${paths.cache}/huggingface`,
    TORCH_HOME: `${paths.cache}/torch`,
    XDG_CACHE_HOME: `${paths.cache}/xdg`,
  }
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && !ownVariables.includes(name)) env[name] = value
  }
  env.HOME = `${paths.data}/home`
  // Where nothing beside the sources can be written, every start would compile them again: seconds for large packages.
  if (!isWritable(workerFolder)) env.PYTHONPYCACHEPREFIX ??= `${paths.data}/pycache`
  return env
}
