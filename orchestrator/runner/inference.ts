import type { BerthError } from '../domain/errors.ts'
import type { Ending } from './last-line.ts'

/** One inference on one runner: raw bytes in, raw bytes out, with backpressure and cancellation. */
export interface InferCall {
  /** Closes the connection, which cancels the inference. No handler is called afterwards. */
  cancel(): void
  /** Goes on reading after `onData` answered false. */
  resume(): void
}

export interface InferHandlers {
  /** Whole or partial lines of NDJSON, as they came. False: stop reading until `resume`. */
  onData(bytes: Buffer): boolean
  /** The stream has ended with its terminal frame, which has been handed on. */
  onEnd(ending: Ending): void
  /** The inference failed, or its stream ended without a terminal frame. */
  onError(error: BerthError): void
}

/** Milliseconds; Infinity: no limit. */
export interface InferLimits {
  readonly firstChunkMs: number
  readonly betweenChunksMs: number
}
