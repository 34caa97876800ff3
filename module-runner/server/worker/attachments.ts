/**
 * A line with binary attachments, as it comes in an `A` or `B` frame: `u32 n | n bytes: the line | per attachment u32 length
 * | bytes`. Writes the line with each attachment as base64 in its place, while the bytes come in.
 */
export interface Sink {
  write(bytes: Buffer): void
  writeLatin1(text: string): void
}

const wordBytes = 4

type Step = 'line-length' | 'line' | 'attachment-length' | 'attachment'

export class AttachmentSplicer {
  readonly #nonce: string
  /** Bytes of the frame's payload that have not come yet. */
  #left: number
  #step: Step = 'line-length'
  /** Bytes that the current step still waits for. */
  #wanted = wordBytes
  #word = 0
  #lineParts: Buffer[] = []
  #line: Buffer = Buffer.alloc(0)
  #written = 0
  #index = 0
  /** Up to two bytes that do not fill a base64 group yet. */
  #carry: Buffer = Buffer.alloc(0)

  constructor(payloadBytes: number, nonce: string) {
    this.#left = payloadBytes
    this.#nonce = nonce
  }

  get finished(): boolean {
    return this.#left === 0
  }

  /** Takes what belongs to this frame from `from` on and answers the position after it. Throws on a malformed frame. */
  consume(bytes: Buffer, from: number, sink: Sink): number {
    let at = from
    while (this.#left > 0 && at < bytes.length) {
      const end = Math.min(at + this.#wanted, at + this.#left, bytes.length)
      const part = bytes.subarray(at, end)
      this.#left -= part.length
      this.#wanted -= part.length
      at = end
      this.#take(part, sink)
      while (this.#wanted === 0) this.#advance(sink)
      if (this.#left === 0) this.#finish(sink)
    }
    return at
  }

  #take(part: Buffer, sink: Sink): void {
    if (this.#step === 'line') this.#lineParts.push(part)
    else if (this.#step === 'attachment') this.#encode(part, sink)
    else for (const byte of part) this.#word = this.#word * 256 + byte
  }

  #advance(sink: Sink): void {
    const step = this.#step
    const size = this.#word
    this.#word = 0
    this.#wanted = wordBytes
    if (step === 'line-length' || step === 'attachment-length') {
      this.#step = step === 'line-length' ? 'line' : 'attachment'
      this.#wanted = size
      if (size > this.#left) throw new RangeError('an attachment is longer than its frame')
      if (step === 'attachment-length') this.#writeUpToPlace(sink)
      return
    }
    if (step === 'line') {
      this.#line = this.#lineParts.length === 1 ? (this.#lineParts[0] ?? this.#line) : Buffer.concat(this.#lineParts)
      this.#lineParts = []
    } else if (this.#carry.length > 0) {
      sink.writeLatin1(this.#carry.toString('base64'))
      this.#carry = Buffer.alloc(0)
    }
    this.#step = 'attachment-length'
  }

  #writeUpToPlace(sink: Sink): void {
    const place = Buffer.from(`@@berth-att:${this.#nonce}:${this.#index}@@`)
    const found = this.#line.indexOf(place, this.#written)
    if (found === -1) throw new RangeError(`the place of attachment ${this.#index} is missing`)
    sink.write(this.#line.subarray(this.#written, found))
    this.#written = found + place.length
    this.#index += 1
  }

  #encode(part: Buffer, sink: Sink): void {
    const bytes = this.#carry.length === 0 ? part : Buffer.concat([this.#carry, part])
    const whole = bytes.length - (bytes.length % 3)
    // Copied: the few bytes must not keep the whole read alive.
    this.#carry = whole === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(whole))
    if (whole > 0) sink.writeLatin1(bytes.toString('base64', 0, whole))
  }

  #finish(sink: Sink): void {
    if (this.#step !== 'attachment-length' || this.#wanted !== wordBytes) throw new RangeError('the frame is cut off')
    sink.write(this.#line.subarray(this.#written))
  }
}
