import { errorFor } from '../domain/error-visibility.ts'
import { isJsonObject } from '../domain/json.ts'

const newline = 10
const frameStart = Buffer.from('{"error"')
const laterFrameStart = Buffer.from('\n{"error"')
/** A longer error frame is not kept: its caller is told so instead. */
const longestFrameBytes = 4 * 1024 * 1024
const nothing = Buffer.alloc(0)

/**
 * Takes what is for admins out of a stream's error frame without parsing the stream. Frames pass as they come; from a line
 * on that begins as an error frame, which is the last, everything is held back until the stream has ended.
 */
export class ErrorFrameFilter {
  #held: Buffer[] = []
  #heldBytes = 0
  /** What is held is an error frame; else it is too short to tell. */
  #isError = false
  /** The next byte begins a line; so does what is held. */
  #lineStarts = true

  /** What may leave now. */
  push(bytes: Buffer): Buffer {
    if (this.#isError) {
      this.#hold(bytes)
      return nothing
    }
    const all = this.#held.length === 0 ? bytes : Buffer.concat([...this.#held, bytes])
    this.#held = []
    this.#heldBytes = 0
    const from = this.#holdFrom(all)
    if (from < all.length) this.#hold(all.subarray(from))
    return all.subarray(0, from)
  }

  /** The stream has ended with its terminal frame: what of it is still to leave. */
  end(): Buffer {
    const held = Buffer.concat(this.#held)
    if (!this.#isError) return held
    const error = this.#heldBytes > longestFrameBytes ? undefined : errorOf(held)
    return Buffer.from(`${JSON.stringify({ error: error ? errorFor(undefined, error) : unreadable })}\n`)
  }

  /** Where an error frame begins, or the bytes at the end that may become the beginning of one; else the length. */
  #holdFrom(bytes: Buffer): number {
    const first = this.#lineStarts && begins(bytes, frameStart) ? 0 : bytes.indexOf(laterFrameStart)
    if (first !== -1) {
      this.#isError = true
      return bytes[first] === newline ? first + 1 : first
    }
    const line = bytes.lastIndexOf(newline) + 1
    const starts = line > 0 || this.#lineStarts
    const tail = bytes.subarray(line)
    const open = starts && tail.length < frameStart.length && begins(frameStart, tail)
    this.#lineStarts = open
    return open ? line : bytes.length
  }

  #hold(bytes: Buffer): void {
    this.#heldBytes += bytes.length
    if (this.#heldBytes <= longestFrameBytes) this.#held.push(bytes)
    else this.#held = []
  }
}

function begins(bytes: Buffer, prefix: Buffer): boolean {
  return bytes.length >= prefix.length && prefix.compare(bytes, 0, prefix.length) === 0
}

function errorOf(frame: Buffer): { readonly details?: Readonly<Record<string, unknown>> } | undefined {
  const end = frame.indexOf(newline)
  try {
    const parsed: unknown = JSON.parse(frame.toString('utf8', 0, end === -1 ? frame.length : end))
    if (!isJsonObject(parsed) || !isJsonObject(parsed.error)) return undefined
    const { details, ...rest } = parsed.error
    return isJsonObject(details) ? { ...rest, details } : rest
  } catch {
    return undefined
  }
}

const unreadable = {
  code: 'INFERENCE_FAILED',
  message: 'The module failed, and its error is too long or too broken to be shown.',
  retryable: false,
  origin: 'module',
}
