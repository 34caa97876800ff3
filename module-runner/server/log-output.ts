import { write } from 'node:fs'
import type { LogOutput } from '../protocol.ts'
import { systemCode } from './errors.ts'

/**
 * Writes log lines to the container's standard output without ever blocking the runner: a slow reader there fills a
 * bounded queue, then the module's own pipes are no longer read, and lines from elsewhere are counted and dropped.
 */
export type Level = LogOutput['level']
export type Source = LogOutput['source']

export interface LogSink {
  write(level: Level, source: Source, message: string): void
  /** A line of the program's own protocol, such as the installer's progress. */
  writeLine(line: object): void
  /** True while the queue is full; `whenWritable` calls back once there is room again. */
  readonly full: boolean
  whenWritable(callback: () => void): void
  /** Resolves when everything is written, or after `limitMs`. */
  flush(limitMs: number): Promise<void>
}

const mostQueuedBytes = 1024 * 1024
const retryMs = 10
/** Longer messages are cut here: LogOutput lines stay far below what log drivers split. */
const longestMessage = 16 * 1024

export function createLogSink(fd: number): LogSink {
  return new FileLog(fd)
}

class FileLog implements LogSink {
  readonly #fd: number
  #queue: string[] = []
  #queued = 0
  #dropped = 0
  #writing = false
  #broken = false
  #waiting: (() => void)[] = []

  constructor(fd: number) {
    this.#fd = fd
  }

  get full(): boolean {
    return this.#queued > mostQueuedBytes
  }

  write(level: Level, source: Source, message: string): void {
    const time = new Date().toISOString()
    const shown = message.length > longestMessage ? `${message.slice(0, longestMessage)} [cut]` : message
    this.writeLine({ time, level, source, message: shown } satisfies LogOutput)
  }

  writeLine(line: object): void {
    if (this.#broken) return
    if (this.#queued > 2 * mostQueuedBytes) {
      this.#dropped += 1
      return
    }
    const text = `${JSON.stringify(line)}\n`
    this.#queue.push(text)
    this.#queued += text.length
    if (!this.#writing) this.#next()
  }

  whenWritable(callback: () => void): void {
    if (this.full) this.#waiting.push(callback)
    else callback()
  }

  async flush(limitMs: number): Promise<void> {
    const end = Date.now() + limitMs
    while (this.#writing && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 5))
  }

  #next(): void {
    this.#release()
    if (this.#queue.length === 0) {
      this.#writing = false
      return
    }
    this.#writing = true
    const bytes = Buffer.from(this.#queue.join(''))
    this.#queue = []
    this.#put(bytes, this.#queued)
  }

  /** `counted`: what these bytes were taken for in the queue, given back when they are written. */
  #put(bytes: Buffer, counted: number): void {
    write(this.#fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null) {
        if (systemCode(error) === 'EAGAIN') {
          setTimeout(() => this.#put(bytes, counted), retryMs)
          return
        }
        // Nobody reads any more: the lines are lost, the module goes on.
        this.#broken = true
        this.#queue = []
        this.#queued = 0
        this.#writing = false
        this.#release()
        return
      }
      if (written < bytes.length) return this.#put(bytes.subarray(written), counted)
      this.#queued -= counted
      if (this.#dropped > 0) {
        const count = this.#dropped
        this.#dropped = 0
        this.write('warning', 'runner', `${count} log lines were dropped, because nobody read the log fast enough`)
      }
      this.#next()
    })
  }

  #release(): void {
    if (this.full || this.#waiting.length === 0) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const callback of waiting) callback()
  }
}
