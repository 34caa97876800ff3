import { type Dispatcher, errors, type Pool } from 'undici'
import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject } from '../domain/json.ts'
import { interrupted, refusedToken, unreachable } from './errors.ts'
import { wrapForeignFrames } from './foreign-frames.ts'
import type { InferCall, InferHandlers, InferLimits } from './inference.ts'
import { LastLine } from './last-line.ts'

/** One inference on one runner, over HTTP. */
export interface InferTarget {
  readonly pool: Pool
  readonly authorization: string
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
  target.pool.dispatch(
    {
      method: 'POST',
      path: '/infer',
      headers: { authorization: target.authorization, 'content-type': 'application/json', 'x-request-id': requestId },
      body,
      headersTimeout: finite(limits.firstChunkMs),
      // An image may send its headers long before its first chunk; Berth's own runner sends both at once.
      bodyTimeout: finite(
        target.foreign ? Math.max(limits.firstChunkMs, limits.betweenChunksMs) : limits.betweenChunksMs,
      ),
    },
    reader,
  )
  return reader
}

/** undici's zero means no limit. */
function finite(ms: number): number {
  return Number.isFinite(ms) ? ms : 0
}

class InferReader implements Dispatcher.DispatchHandler, InferCall {
  readonly #module: string
  readonly #handlers: InferHandlers
  readonly #limits: InferLimits
  readonly #lastLine = new LastLine()
  #controller: Dispatcher.DispatchController | undefined
  #cancelled = false
  #paused = false
  #status = 0
  #errorBody: Buffer[] = []
  #errorBytes = 0

  constructor(module: string, handlers: InferHandlers, limits: InferLimits) {
    this.#module = module
    this.#handlers = handlers
    this.#limits = limits
  }

  cancel(): void {
    if (this.#cancelled) return
    this.#cancelled = true
    this.#controller?.abort(new Error('cancelled'))
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    this.#controller?.resume()
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#cancelled) controller.abort(new Error('cancelled'))
  }

  onResponseStart(_controller: Dispatcher.DispatchController, status: number): void {
    this.#status = status
  }

  onResponseData(controller: Dispatcher.DispatchController, bytes: Buffer): void {
    if (this.#cancelled) return
    if (this.#status !== 200) {
      if (this.#errorBytes < longestErrorBytes) this.#errorBody.push(bytes)
      this.#errorBytes += bytes.length
      return
    }
    this.#lastLine.push(bytes)
    if (this.#handlers.onData(bytes)) return
    this.#paused = true
    controller.pause()
  }

  onResponseEnd(): void {
    if (this.#cancelled) return
    if (this.#status !== 200) {
      this.#handlers.onError(this.#refused())
      return
    }
    const ending = this.#lastLine.ending()
    if (ending.kind === 'open') this.#handlers.onError(interrupted(this.#module))
    else this.#handlers.onEnd(ending)
  }

  onResponseError(_controller: Dispatcher.DispatchController, error: Error): void {
    if (this.#cancelled) return
    // What follows the terminal frame changes nothing any more: it has been handed on.
    const ending = this.#lastLine.ending()
    if (ending.kind === 'open') this.#handlers.onError(this.#translate(error))
    else this.#handlers.onEnd(ending)
  }

  #refused(): BerthError {
    if (this.#status === 401) return refusedToken(this.#module)
    const parsed = parseJson(Buffer.concat(this.#errorBody).toString('utf8'))
    if (isJsonObject(parsed) && isJsonObject(parsed.error)) {
      return fromModuleError(parsed, 'INFERENCE_FAILED', { module: this.#module })
    }
    const message = `Module ${this.#module} answered ${this.#status} without an error body of the protocol.`
    return new BerthError('RUNNER_PROTOCOL', message, { module: this.#module })
  }

  #translate(error: Error): BerthError {
    const module = this.#module
    if (error instanceof errors.HeadersTimeoutError) {
      const limit = this.#limits.firstChunkMs / 1000
      return new BerthError(
        'INFERENCE_TIMEOUT',
        `Module ${module} gave no first chunk within ${limit} s (timeouts.first_chunk).`,
        { module },
      )
    }
    if (error instanceof errors.BodyTimeoutError) {
      if (!this.#lastLine.begun) return this.#translate(new errors.HeadersTimeoutError())
      const limit = this.#limits.betweenChunksMs / 1000
      return new BerthError(
        'INFERENCE_TIMEOUT',
        `Module ${module} gave no further chunk within ${limit} s (timeouts.between_chunks).`,
        { module },
      )
    }
    return this.#status === 200 ? interrupted(module, error) : unreachable(module, error)
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
