import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'
import type { LogSink } from './log-output.ts'

/** A line without end is cut here, so that it can't grow the runner. */
const longestLine = 16 * 1024
/** A progress bar that rewrites its line with `\r` gives one line in this time. */
const rewriteMs = 1_000

/** Reads a program's output line by line. */
export class LineReader {
  readonly #onLine: (line: string) => void
  readonly #decoder = new StringDecoder('utf8')
  #rest = ''
  #rewritten = 0

  constructor(onLine: (line: string) => void) {
    this.#onLine = onLine
  }

  push(bytes: Buffer): void {
    const lines = (this.#rest + this.#decoder.write(bytes)).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) this.#emit(line)
    const rewrite = this.#rest.lastIndexOf('\r', this.#rest.length - 2)
    if (rewrite >= 0) this.#rewrite(this.#rest.slice(0, rewrite), this.#rest.slice(rewrite + 1))
    while (this.#rest.length > longestLine) {
      this.#emit(this.#rest.slice(0, longestLine))
      this.#rest = this.#rest.slice(longestLine)
    }
  }

  /** What stands there without a line end. */
  end(): void {
    const rest = this.#rest + this.#decoder.end()
    this.#rest = ''
    this.#emit(rest)
  }

  /** A rewritten line shows as it goes: what stands before its last `\r` is complete. */
  #rewrite(line: string, rest: string): void {
    this.#rest = rest
    const now = Date.now()
    if (now - this.#rewritten < rewriteMs) return
    this.#rewritten = now
    this.#emit(line)
  }

  #emit(line: string): void {
    const bare = line.endsWith('\r') ? line.slice(0, -1) : line
    const shown = bare.slice(bare.lastIndexOf('\r') + 1)
    if (shown.trim() === '') return
    for (let at = 0; at < shown.length; at += longestLine) this.#onLine(shown.slice(at, at + longestLine))
  }
}

/** The last lines of a program, for the error that tells of its end. */
export class LastLines {
  readonly #most: number
  #lines: string[] = []

  constructor(most: number) {
    this.#most = most
  }

  push(line: string): void {
    this.#lines.push(line.length > 500 ? `${line.slice(0, 500)} [cut]` : line)
    if (this.#lines.length > 2 * this.#most) this.#lines = this.#lines.slice(-this.#most)
  }

  list(): readonly string[] {
    return this.#lines.slice(-this.#most)
  }
}

/** Reads a stream into lines for as long as the log has room: a full log is felt by who prints, as with any pipe. */
export function readLines(stream: Readable, log: LogSink, onLine: (line: string) => void): void {
  const reader = new LineReader(onLine)
  stream.on('data', (bytes: Buffer) => {
    reader.push(bytes)
    if (!log.full) return
    stream.pause()
    log.whenWritable(() => stream.resume())
  })
  stream.on('end', () => reader.end())
  stream.on('error', () => reader.end())
}
