import { RunnerError } from './errors.ts'

/** Deeper JSON than this is refused: parsers recurse, and Python's gives up at about a thousand. */
export const deepestNesting = 256

/** Of a text that is there whole. */
export function isTooDeep(bytes: Buffer): boolean {
  try {
    new NestingGuard().push(bytes)
    return false
  } catch {
    return true
  }
}

const quote = 0x22
const backslash = 0x5c

/**
 * Watches how deep a JSON text nests while its bytes come in, without parsing it. Strings are skipped by a native search,
 * so that megabytes of base64 cost little.
 */
export class NestingGuard {
  #depth = 0
  #inString = false
  #escaped = false

  /** Throws REQUEST_INVALID once the text is too deep. */
  push(bytes: Buffer): void {
    let at = 0
    while (at < bytes.length) {
      if (this.#inString) {
        at = this.#skipString(bytes, at)
        continue
      }
      const byte = bytes[at]
      at += 1
      if (byte === quote) this.#inString = true
      else if (byte === 0x7b || byte === 0x5b) {
        this.#depth += 1
        if (this.#depth > deepestNesting) {
          throw new RunnerError('REQUEST_INVALID', `The request's JSON nests deeper than ${deepestNesting} levels.`)
        }
      } else if (byte === 0x7d || byte === 0x5d) this.#depth -= 1
    }
  }

  /** The position after the string's end, or after the bytes. */
  #skipString(bytes: Buffer, from: number): number {
    let at = from
    if (this.#escaped) {
      this.#escaped = false
      at += 1
    }
    for (;;) {
      const end = bytes.indexOf(quote, at)
      const stop = end === -1 ? bytes.length : end
      let slashes = 0
      while (stop - 1 - slashes >= at && bytes[stop - 1 - slashes] === backslash) slashes += 1
      const odd = slashes % 2 === 1
      if (end === -1) {
        this.#escaped = odd
        return bytes.length
      }
      at = end + 1
      if (!odd) {
        this.#inString = false
        return at
      }
    }
  }
}
