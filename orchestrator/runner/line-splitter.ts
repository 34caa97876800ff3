const newline = 10

/** Chunks carry files as base64; a line beyond this is none. */
export const longestLine = 256 * 1024 * 1024

/** Cuts a byte stream into lines. Holds one unfinished line at most. */
export class LineSplitter {
  readonly #longest: number
  #parts: Buffer[] = []
  #held = 0

  /** `longest`: bytes of a line, of which the sender is not trusted to make an end. */
  constructor(longest: number = longestLine) {
    this.#longest = longest
  }

  /** The lines that these bytes complete, without their line ends. Throws RangeError when a line is too long. */
  push(bytes: Buffer): Buffer[] {
    const lines: Buffer[] = []
    let start = 0
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
      const piece = bytes.subarray(start, end)
      lines.push(this.#parts.length === 0 ? piece : Buffer.concat([...this.#parts, piece]))
      this.#parts = []
      this.#held = 0
      start = end + 1
    }
    if (start < bytes.length) this.#hold(bytes.subarray(start))
    return lines
  }

  #hold(part: Buffer): void {
    this.#held += part.length
    if (this.#held > this.#longest) throw new RangeError(`a line is longer than ${this.#longest} bytes`)
    this.#parts.push(part)
  }

  /** What came after the last line end. */
  rest(): Buffer {
    const rest = Buffer.concat(this.#parts)
    this.#parts = []
    this.#held = 0
    return rest
  }
}
