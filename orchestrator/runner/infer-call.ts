import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject } from '../domain/json.ts'
import type { Connection, Connections, Exchange } from './connections.ts'
import { interrupted, refusedToken, unreachable } from './errors.ts'
import { wrapForeignFrames } from './foreign-frames.ts'
import type { InferCall, InferHandlers, InferLimits } from './inference.ts'
import { LastLine } from './last-line.ts'

/** One inference on one runner, over HTTP. */
export interface InferTarget {
  readonly connections: Connections
  readonly module: string
  readonly foreign: boolean
}

/** An error body longer than this is cut. */
const longestErrorBytes = 1024 * 1024

export function startInfer(
  target: InferTarget,
  body: string,
  requestId: string,
  limits: InferLimits,
  handlers: InferHandlers,
): InferCall {
  const wrapped = target.foreign ? wrapForeignFrames(target.module, handlers, () => reader.cancel()) : handlers
  const reader = new InferReader(target.module, wrapped, limits)
  reader.begin(target.connections, body, requestId)
  return reader
}

/** What would break a header is left out of an id. */
const unfit = /[^\x21-\x7e]/g
/** Longer ones end at once. */
const longestTimerMs = 2 ** 31 - 1

class InferReader implements Exchange, InferCall {
  readonly #module: string
  readonly #handlers: InferHandlers
  readonly #limits: InferLimits
  readonly #lastLine = new LastLine()
  #connection: Connection | undefined
  /** Ends what has given nothing for too long; stands still while nobody reads. */
  #timer: NodeJS.Timeout | undefined
  #over = false
  #paused = false
  #errorBody: Buffer[] = []
  #errorBytes = 0

  constructor(module: string, handlers: InferHandlers, limits: InferLimits) {
    this.#module = module
    this.#handlers = handlers
    this.#limits = limits
  }

  begin(connections: Connections, body: string, requestId: string): void {
    this.#startTimer(this.#limits.firstChunkMs)
    this.#connection = connections.send(`x-request-id: ${requestId.replace(unfit, '')}\r\n`, body, this)
    if (this.#connection === undefined) this.onBroken(0, new Error('it is being stopped'))
  }

  cancel(): void {
    if (this.#over) return
    this.#end()
    this.#connection?.abort()
  }

  resume(): void {
    if (!this.#paused || this.#over) return
    this.#paused = false
    this.#startTimer(this.#limits.betweenChunksMs)
    this.#connection?.resume()
  }

  onBody(status: number, bytes: Buffer, last: boolean): boolean {
    if (status !== 200) {
      if (this.#errorBytes < longestErrorBytes) this.#errorBody.push(bytes)
      this.#errorBytes += bytes.length
      return true
    }
    if (this.#lastLine.begun) this.#timer?.refresh()
    else if (!last) this.#startTimer(this.#limits.betweenChunksMs)
    this.#lastLine.push(bytes)
    if (this.#handlers.onData(bytes)) return true
    clearTimeout(this.#timer)
    this.#paused = true
    return false
  }

  onComplete(status: number): void {
    if (this.#over) return
    this.#end()
    const ending = this.#lastLine.ending()
    if (status !== 200) this.#handlers.onError(this.#refused(status))
    else if (ending.kind === 'open') this.#handlers.onError(interrupted(this.#module))
    else this.#handlers.onEnd(ending)
  }

  onBroken(status: number, error: Error): void {
    if (this.#over) return
    this.#end()
    // What follows the terminal frame changes nothing any more: it has been handed on.
    const ending = this.#lastLine.ending()
    if (ending.kind !== 'open') this.#handlers.onEnd(ending)
    else this.#handlers.onError(status === 200 ? interrupted(this.#module, error) : unreachable(this.#module, error))
  }

  #end(): void {
    this.#over = true
    clearTimeout(this.#timer)
  }

  #startTimer(ms: number): void {
    clearTimeout(this.#timer)
    this.#timer = Number.isFinite(ms) ? setTimeout(() => this.#expire(), Math.min(ms, longestTimerMs)) : undefined
  }

  #expire(): void {
    this.cancel()
    const module = this.#module
    const { firstChunkMs, betweenChunksMs } = this.#limits
    const message = this.#lastLine.begun
      ? `Module ${module} gave no further chunk within ${betweenChunksMs / 1000} s (timeouts.between_chunks).`
      : `Module ${module} gave no first chunk within ${firstChunkMs / 1000} s (timeouts.first_chunk).`
    this.#handlers.onError(new BerthError('INFERENCE_TIMEOUT', message, { module }))
  }

  #refused(status: number): BerthError {
    if (status === 401) return refusedToken(this.#module)
    const parsed = parseJson(Buffer.concat(this.#errorBody).toString('utf8'))
    if (isJsonObject(parsed) && isJsonObject(parsed.error)) {
      return fromModuleError(parsed, 'INFERENCE_FAILED', { module: this.#module })
    }
    const message = `Module ${this.#module} answered ${status} without an error body of the protocol.`
    return new BerthError('RUNNER_PROTOCOL', message, { module: this.#module })
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
