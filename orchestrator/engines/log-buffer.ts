import { StringDecoder } from 'node:string_decoder'
import type { LogLine, LogOptions } from './engine.ts'

const maximumLine = 64 * 1024

/** The last lines of a workload's output, bounded by their size, with any number of readers. */
export class LogBuffer {
  readonly #maximumCharacters: number
  readonly #lines: LogLine[] = []
  #characters = 0
  /** Number of the first line that is still held; lines count from 0. */
  #first = 0
  #ended = false
  readonly #waiting = new Set<() => void>()

  constructor(maximumCharacters = 2 * 1024 * 1024) {
    this.#maximumCharacters = maximumCharacters
  }

  append(line: LogLine): void {
    this.#lines.push(line)
    this.#characters += line.text.length
    if (this.#characters > this.#maximumCharacters) this.#dropOldest()
    this.#wake()
  }

  /** No more lines will come: readers that follow end after what is there. */
  end(): void {
    this.#ended = true
    this.#wake()
  }

  /** The newest `count` lines' text. */
  last(count: number): readonly string[] {
    return this.#lines.slice(-count).map((line) => line.text)
  }

  /** A reader that falls behind what is held misses lines; nobody waits for it. */
  async *read(options: LogOptions): AsyncIterable<LogLine> {
    const { signal, follow = false, after, tail } = options
    const end = this.#first + this.#lines.length
    let next = tail === undefined ? this.#first : Math.max(this.#first, end - tail)
    if (after !== undefined) next = Math.max(next, Number(after) + 1)
    while (!signal.aborted) {
      next = Math.max(next, this.#first)
      const line = this.#lines[next - this.#first]
      if (line !== undefined) {
        yield { ...line, position: String(next) }
        next += 1
      } else if (!follow || this.#ended) {
        return
      } else {
        await this.#more(signal)
      }
    }
  }

  /** A quarter at once: dropping line by line would move the whole array for every line. */
  #dropOldest(): void {
    let dropped = 0
    while (this.#characters > this.#maximumCharacters * 0.75 && dropped < this.#lines.length - 1) {
      this.#characters -= this.#lines[dropped]?.text.length ?? 0
      dropped += 1
    }
    this.#lines.splice(0, dropped)
    this.#first += dropped
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve()
    this.#waiting.clear()
  }

  #more(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        signal.removeEventListener('abort', done)
        this.#waiting.delete(done)
        resolve()
      }
      signal.addEventListener('abort', done)
      this.#waiting.add(done)
    })
  }
}

/** Bytes to lines: `push` what arrives, `flush` at the end. Lines longer than `longest` characters are cut in pieces. */
export class LineSplitter {
  readonly #decoder = new StringDecoder('utf8')
  readonly #onLine: (text: string) => void
  readonly #longest: number
  #rest = ''

  constructor(onLine: (text: string) => void, longest = maximumLine) {
    this.#onLine = onLine
    this.#longest = longest
  }

  push(bytes: Buffer): void {
    const parts = (this.#rest + this.#decoder.write(bytes)).split('\n')
    this.#rest = parts.pop() ?? ''
    for (const part of parts) this.#emit(part.endsWith('\r') ? part.slice(0, -1) : part)
    while (this.#rest.length > this.#longest) {
      this.#onLine(this.#rest.slice(0, this.#longest))
      this.#rest = this.#rest.slice(this.#longest)
    }
  }

  flush(): void {
    const rest = this.#rest + this.#decoder.end()
    this.#rest = ''
    if (rest !== '') this.#emit(rest)
  }

  #emit(line: string): void {
    for (let from = 0; from === 0 || from < line.length; from += this.#longest) {
      this.#onLine(line.slice(from, from + this.#longest))
    }
  }
}
