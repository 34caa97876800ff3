const newline = 10
const done = Buffer.from('{"done"')
const error = Buffer.from('{"error"')
/** Enough to hold the code of an error frame. */
const kept = 96

const nothing = Buffer.alloc(0)

/** How a stream has ended: `open` is without a terminal frame. */
export type Ending =
  | { readonly kind: 'done' }
  | { readonly kind: 'error'; readonly code: string | undefined }
  | { readonly kind: 'open' }

/**
 * Knows how an NDJSON stream ends without parsing it: it keeps the first bytes of the last line that has begun. Berth's
 * own runner writes terminal frames exactly as `{"done"...` and `{"error":{"code":"..."`.
 */
export class LastLine {
  #head: Buffer = nothing
  #complete = true

  push(bytes: Buffer): void {
    if (bytes.length === 0) return
    const complete = bytes[bytes.length - 1] === newline
    const before = bytes.length < 2 ? -1 : bytes.lastIndexOf(newline, bytes.length - (complete ? 2 : 1))
    if (before >= 0) this.#head = bytes.subarray(before + 1, before + 1 + kept)
    else if (this.#complete) this.#head = bytes.subarray(0, kept)
    else if (this.#head.length < kept)
      this.#head = Buffer.concat([this.#head, bytes.subarray(0, kept - this.#head.length)])
    this.#complete = complete
  }

  /** Something has come. */
  get begun(): boolean {
    return this.#head.length > 0
  }

  ending(): Ending {
    if (!this.#complete) return { kind: 'open' }
    if (begins(this.#head, done)) return { kind: 'done' }
    if (!begins(this.#head, error)) return { kind: 'open' }
    return { kind: 'error', code: /"code":\s*"([A-Z_]+)"/.exec(this.#head.toString('latin1'))?.[1] }
  }
}

function begins(head: Buffer, prefix: Buffer): boolean {
  return head.length >= prefix.length && prefix.compare(head, 0, prefix.length) === 0
}
