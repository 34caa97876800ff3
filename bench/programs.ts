import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { createServer } from 'node:net'
import { delimiter, join } from 'node:path'

/** Programs of this machine: found, started, waited for, ended. */
export function hasProgram(name: string): boolean {
  return findProgram(name) !== undefined
}

/** Absolute path of a program; the system folders are looked in too, where Debian keeps nginx. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('the system gave no port')
  return address.port
}

export interface RunningProgram {
  readonly pid: number
  /** SIGTERM, SIGKILL when that does not end it soon. */
  stop(): Promise<void>
}

export interface ProgramOptions {
  readonly env?: NodeJS.ProcessEnv
  readonly cwd?: string
  /** Asked until true; then it is ready. */
  readonly ready: () => Promise<boolean>
}

const readyMs = 120_000
const stopMs = 20_000

/** Starts a program and waits until it is ready. Throws with its output when it ends before. */
export async function startProgram(
  program: string,
  args: readonly string[],
  options: ProgramOptions,
): Promise<RunningProgram> {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  let output = ''
  const keep = (bytes: Buffer) => {
    output = (output + bytes.toString()).slice(-8_000)
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  child.on('error', (error) => {
    output += error.message
  })
  try {
    await until(`${program} is ready`, async () => {
      if (hasEnded(child)) throw new Error(`${program} ended:\n${output}`)
      return options.ready()
    })
  } catch (error) {
    child.kill('SIGKILL')
    throw new Error(`${error instanceof Error ? error.message : String(error)}\n${output}`)
  }
  return {
    pid: child.pid ?? 0,
    async stop() {
      if (hasEnded(child)) return
      const gone = once(child, 'exit')
      const force = setTimeout(() => child.kill('SIGKILL'), stopMs)
      child.kill('SIGTERM')
      await gone
      clearTimeout(force)
    },
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null || child.pid === undefined
}

/** Polls; throws when it takes longer than two minutes. */
export async function until(what: string, condition: () => Promise<boolean>, everyMs = 20): Promise<void> {
  const deadline = Date.now() + readyMs
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${readyMs / 1000} s: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}

/** Does the URL answer 200? */
export async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    (answer) => answer.status === 200,
    () => false,
  )
}
