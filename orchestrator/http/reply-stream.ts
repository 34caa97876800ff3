import type { ServerResponse } from 'node:http'
import type { BerthError } from '../domain/errors.ts'
import type { InferenceTimings } from '../inference/types.ts'

/**
 * Writes one inference's frames to its client: the same bytes as NDJSON, or each line as an SSE event. Whoever feeds it
 * stops when a write answers false, until `onDrain`: a slow client grows nobody's memory.
 */
export class ReplyStream {
  readonly #raw: ServerResponse
  readonly #requestId: string
  readonly #sse: boolean
  readonly #onDrain: () => void
  /** A line has begun and is not complete: an error frame must not be written onto it, an SSE event needs its end. */
  #midLine = false

  constructor(raw: ServerResponse, options: { requestId: string; sse: boolean; onDrain: () => void }) {
    this.#raw = raw
    this.#requestId = options.requestId
    this.#sse = options.sse
    this.#onDrain = options.onDrain
  }

  get started(): boolean {
    return this.#raw.headersSent
  }

  /** Sends the head. Without timings: the request waits in the queue. */
  begin(timings: InferenceTimings | undefined): void {
    if (this.#raw.headersSent || this.#raw.destroyed) return
    this.#raw.on('drain', this.#onDrain)
    const head: Record<string, string> = {
      'content-type': this.#sse ? 'text/event-stream; charset=utf-8' : 'application/x-ndjson; charset=utf-8',
      'x-request-id': this.#requestId,
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    }
    if (timings) head['server-timing'] = serverTiming(timings)
    this.#raw.writeHead(200, head)
  }

  /** NDJSON, lines cut anywhere. False: the client's connection is full. */
  data(bytes: Buffer): boolean {
    if (this.#raw.destroyed) return true
    if (this.#sse) return this.#raw.write(this.#toEvents(bytes))
    if (bytes.length > 0) this.#midLine = bytes[bytes.length - 1] !== newline
    return this.#raw.write(bytes)
  }

  frame(frame: unknown): void {
    this.data(Buffer.from(`${JSON.stringify(frame)}\n`))
  }

  /** The last frame has been sent. */
  end(): void {
    this.#raw.end()
  }

  /** Ends a stream that has begun with an error frame (without request id: the header has it). */
  fail(error: BerthError): void {
    if (this.#midLine) this.data(Buffer.from('\n'))
    this.frame({ error: error.toBody() })
    this.end()
  }

  #toEvents(bytes: Buffer): Buffer {
    const parts: Buffer[] = []
    let start = 0
    while (start < bytes.length) {
      if (!this.#midLine) parts.push(dataPrefix)
      const end = bytes.indexOf(newline, start)
      this.#midLine = end < 0
      parts.push(bytes.subarray(start, end < 0 ? bytes.length : end))
      if (end < 0) break
      parts.push(eventEnd)
      start = end + 1
    }
    return Buffer.concat(parts)
  }
}

const newline = 10
const dataPrefix = Buffer.from('data: ')
const eventEnd = Buffer.from('\n\n')

export function serverTiming({ queueMs, startMs, loadMs, firstMs }: InferenceTimings): string {
  return `queue;dur=${queueMs.toFixed(1)}, start;dur=${startMs.toFixed(1)}, load;dur=${loadMs.toFixed(1)}, first;dur=${firstMs.toFixed(1)}`
}
