import type { Reply } from '../../module-runner/plain-http/reply.ts'
import type { BerthError } from '../domain/errors.ts'
import type { InferenceTimings } from '../inference/types.ts'
import type { Caller } from './auth/authenticator.ts'
import { ErrorFrameFilter } from './error-frame-filter.ts'
import { errorJson } from './errors.ts'

export interface ReplyStreamOptions {
  readonly requestId: string
  readonly caller: Caller
  readonly sse: boolean
  /** The client understands trailers. */
  readonly trailers: boolean
  readonly onDrain: () => void
}

/**
 * Writes one inference's frames to its client: the same bytes as NDJSON, or each line as an SSE event. Whoever feeds it
 * stops when a write answers false, until `onDrain`: a slow client grows nobody's memory.
 */
export class ReplyStream {
  readonly #raw: Reply
  readonly #requestId: string
  readonly #sse: boolean
  readonly #trailers: boolean
  readonly #onDrain: () => void
  readonly #caller: Caller
  readonly #filter: ErrorFrameFilter | undefined
  /** The head told of a trailer, for times that were not known yet. */
  #trailed = false
  #timings: InferenceTimings | undefined
  /** A line has begun and is not complete: an error frame must not be written onto it, an SSE event needs its end. */
  #midLine = false

  constructor(raw: Reply, options: ReplyStreamOptions) {
    this.#raw = raw
    this.#requestId = options.requestId
    this.#sse = options.sse
    this.#trailers = options.trailers
    this.#onDrain = options.onDrain
    this.#caller = options.caller
    this.#filter = options.caller.admin ? undefined : new ErrorFrameFilter()
  }

  get started(): boolean {
    return this.#raw.headersSent
  }

  /** Sends the head. Without timings: the request waits in the queue, and they follow in a trailer (RFC 9110, 6.5). */
  begin(timings: InferenceTimings | undefined): void {
    this.#timings = timings
    if (this.#raw.headersSent || this.#raw.destroyed) return
    this.#raw.on('drain', this.#onDrain)
    const head: Record<string, string> = {
      'content-type': this.#sse ? 'text/event-stream; charset=utf-8' : 'application/x-ndjson; charset=utf-8',
      'x-request-id': this.#requestId,
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    }
    if (timings) head['server-timing'] = serverTiming(timings)
    else if (this.#trailers) {
      this.#trailed = true
      head.trailer = 'Server-Timing'
    }
    this.#raw.writeHead(200, head)
  }

  /** NDJSON, lines cut anywhere. False: the client's connection is full. */
  data(bytes: Buffer): boolean {
    return this.#write(this.#filter === undefined ? bytes : this.#filter.push(bytes))
  }

  frame(frame: unknown): void {
    this.#write(Buffer.from(`${JSON.stringify(frame)}\n`))
  }

  /** The last frame has been among the data. */
  end(): void {
    if (this.#filter !== undefined) this.#write(this.#filter.end())
    this.#finish()
  }

  /** Ends a stream that has begun with an error frame (without request id: the header has it). */
  fail(error: BerthError, timings?: InferenceTimings): void {
    this.#timings ??= timings
    if (this.#midLine) this.#write(Buffer.from('\n'))
    this.#write(Buffer.from(`${errorJson(error, this.#caller)}\n`))
    this.#finish()
  }

  #finish(): void {
    if (this.#trailed && this.#timings) this.#raw.addTrailers({ 'Server-Timing': serverTiming(this.#timings) })
    this.#raw.end()
  }

  #write(bytes: Buffer): boolean {
    if (this.#raw.destroyed || bytes.length === 0) return true
    if (this.#sse) return this.#raw.write(this.#toEvents(bytes))
    this.#midLine = bytes[bytes.length - 1] !== newline
    return this.#raw.write(bytes)
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
  const parts = [metric('queue', queueMs), metric('start', startMs)]
  if (loadMs !== undefined) parts.push(metric('load', loadMs))
  if (firstMs !== undefined) parts.push(metric('first', firstMs))
  return parts.join(', ')
}

function metric(name: string, ms: number): string {
  return `${name};dur=${ms.toFixed(1)}`
}
