import { type ChildProcess, spawn } from 'node:child_process'
import { LastLines, readLines } from '../line-reader.ts'
import type { LogSink } from '../log-output.ts'

/** Runs the programs of an installation one after the other, each of their lines told as it comes. */
export interface Outcome {
  /** Exit status 0. */
  readonly ok: boolean
  /** The last lines that it printed. */
  readonly lines: readonly string[]
}

export type Variables = Readonly<Record<string, string | undefined>>

export interface ProgramOptions {
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  readonly onLine?: (line: string) => void
}

export interface Programs {
  /** Never rejects: a program that can't be started is one that failed. */
  run(command: readonly string[], options: ProgramOptions): Promise<Outcome>
  /** Its standard output; undefined when it failed. Prints nothing. */
  ask(command: readonly string[], env: Variables): Promise<string | undefined>
  /** Ends what runs. */
  kill(): void
}

const keptLines = 40
/** A question to an interpreter is answered at once, or not at all. */
const askMs = 30_000
/** What a program leaves running may hold its output open; it is not waited for. */
const outputMs = 1_000

export function createPrograms(log: LogSink): Programs {
  let running: ChildProcess | undefined

  return {
    async run([program = '', ...args], { cwd, env, onLine }) {
      const last = new LastLines(keptLines)
      const child = spawn(program, args, { cwd, env: { ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
      running = child
      const print = (line: string) => {
        last.push(line)
        log.write('info', 'installer', line)
        onLine?.(line)
      }
      readLines(child.stdout, log, print)
      readLines(child.stderr, log, print)
      const ok = await new Promise<boolean>((resolve) => {
        child.on('error', (error) => {
          print(`${program}: ${error.message}`)
          resolve(false)
        })
        child.on('exit', (code, signal) => {
          if (signal !== null) print(`${program} was ended by ${signal}`)
          const limit = setTimeout(() => resolve(code === 0), outputMs)
          child.on('close', () => {
            clearTimeout(limit)
            resolve(code === 0)
          })
        })
      })
      running = undefined
      return { ok, lines: last.list() }
    },

    async ask([program = '', ...args], env) {
      const child = spawn(program, args, { env: { ...env }, stdio: ['ignore', 'pipe', 'ignore'], timeout: askMs })
      running = child
      let text = ''
      child.stdout.setEncoding('utf8')
      child.stdout.on('data', (part: string) => {
        text += part
      })
      const ok = await new Promise<boolean>((resolve) => {
        child.on('error', () => resolve(false))
        child.on('close', (code) => resolve(code === 0))
      })
      running = undefined
      return ok ? text : undefined
    },

    kill() {
      running?.kill('SIGKILL')
    },
  }
}
