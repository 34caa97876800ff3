import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import type { WorkloadExit } from '../engine.ts'
import { LineSplitter } from '../log-buffer.ts'
import { killFamily, signalProcess } from './process-table.ts'

/**
 * A child process in a process group and session of its own, with everything that it starts. Its standard input is its
 * life line: it ends when this process does, however that happens. When the first process is gone, the rest is ended.
 */
export interface ChildGroupOptions {
  readonly program: string
  readonly args: readonly string[]
  readonly cwd: string
  readonly env: Readonly<Record<string, string>>
  /** Those of `env` that tell this group from every other. */
  readonly marks: Readonly<Record<string, string>>
  /** What ends it when this process is gone: the program itself, or a guard in its group for one that does not look. */
  readonly lifeLine: 'program' | 'guard'
  readonly onLine: (stream: 'stdout' | 'stderr', text: string) => void
}

/** The shell sets the limits that every process of the group gets, and is replaced by the program. */
const plain = 'ulimit -c 0; exec "$@"'
/** `cat` sees the end of standard input; `$$` is the program's process id, and that of the group, in which it is itself. */
const guarded = `ulimit -c 0; exec 3<&0; (cat <&3 >/dev/null 2>&1; kill -s KILL -- -$$) >/dev/null 2>&1 & exec "$@" 3<&- </dev/null`

/** Milliseconds for the last output of a group whose processes are all gone. */
const outputGraceMs = 1_000

export class ChildGroup {
  readonly pid: number
  /** The first process is gone; what it left behind may still be being ended. */
  readonly exited: Promise<WorkloadExit>
  /** All of it is gone, and its output read. */
  readonly gone: Promise<void>
  readonly #child: ChildProcess
  #running = true

  private constructor(child: ChildProcess, pid: number, options: ChildGroupOptions) {
    this.#child = child
    this.pid = pid
    child.on('error', () => undefined) // a signal that could not be sent
    child.stdin?.on('error', () => undefined)
    const output = [
      readLines(child.stdout, (text) => options.onLine('stdout', text)),
      readLines(child.stderr, (text) => options.onLine('stderr', text)),
    ]
    this.exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#running = false
        resolve({ ...(code === null ? {} : { code }), ...(signal === null ? {} : { signal }) })
      })
    })
    this.gone = this.exited.then(async () => {
      await killFamily({ variables: options.marks, leader: pid })
      await settledWithin(Promise.all(output), outputGraceMs)
      child.stdin?.destroy()
      child.stdout?.destroy()
      child.stderr?.destroy()
    })
  }

  /** Rejects with the system's error when the program can't be started. */
  static async start(options: ChildGroupOptions): Promise<ChildGroup> {
    const script = options.lifeLine === 'program' ? plain : guarded
    const child = spawn('/bin/sh', ['-c', script, 'sh', options.program, ...options.args], {
      cwd: options.cwd,
      env: { ...options.env },
      detached: true,
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    return new Promise((resolve, reject) => {
      child.once('error', reject)
      child.once('spawn', () => {
        child.off('error', reject)
        if (child.pid === undefined) reject(new Error('the system gave no process id'))
        else resolve(new ChildGroup(child, child.pid, options))
      })
    })
  }

  /** SIGTERM to the first process, after `graceMs` SIGKILL to all; resolves when all of it is gone. */
  async end(graceMs: number): Promise<void> {
    if (this.#running && graceMs > 0) {
      this.#child.kill('SIGTERM')
      await settledWithin(this.exited, graceMs)
    }
    // Sound only while the leader is not reaped: its number can't belong to another group.
    if (this.#running) signalProcess(-this.pid, 'SIGKILL')
    await this.gone
  }
}

async function readLines(stream: Readable | null, onLine: (text: string) => void): Promise<void> {
  if (stream === null) return
  const splitter = new LineSplitter(onLine)
  stream.on('data', (bytes: Buffer) => splitter.push(bytes))
  await new Promise<void>((resolve) => {
    stream.once('close', resolve)
    stream.once('error', () => resolve())
  })
  splitter.flush()
}

async function settledWithin(promise: Promise<unknown>, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, Math.min(limitMs, 2_147_483_647))
  })
  await Promise.race([promise.catch(() => undefined), limit])
  clearTimeout(timer)
}
