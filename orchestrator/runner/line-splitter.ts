const newline = 10

/** Cuts a byte stream into lines. Holds one unfinished line at most, whose length the sender decides. */
export class LineSplitter {
  #parts: Buffer[] = []

  /** The lines that these bytes complete, without their line ends. */
  push(bytes: Buffer): Buffer[] {
    const lines: Buffer[] = []
    let start = 0
    for (let end = bytes.indexOf(newline); end >= 0; end = bytes.indexOf(newline, start)) {
      const piece = bytes.subarray(start, end)
      lines.push(this.#parts.length === 0 ? piece : Buffer.concat([...this.#parts, piece]))
      this.#parts = []
      start = end + 1
    }
    if (start < bytes.length) this.#parts.push(bytes.subarray(start))
    return lines
  }

  /** What came after the last line end. */
  rest(): Buffer {
    const rest = Buffer.concat(this.#parts)
    this.#parts = []
    return rest
  }
}
