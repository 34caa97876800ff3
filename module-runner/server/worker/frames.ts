/**
 * Frames between the runner and the Python worker: `u32 big-endian length of what follows | u8 type | payload`.
 * module-runner/python/berth_worker/frames.py describes them all.
 */
const code = (letter: string): number => letter.charCodeAt(0)

export const frames = {
  hello: code('H'),
  status: code('S'),
  answer: code('K'),
  log: code('G'),
  call: code('X'),
  window: code('W'),
  ended: code('T'),
  load: code('L'),
  offload: code('F'),
  open: code('O'),
  result: code('R'),
  quit: code('Q'),
  infer: code('I'),
  chunk: code('C'),
  chunkWithFiles: code('A'),
  done: code('D'),
  doneWithFiles: code('B'),
  error: code('E'),
} as const

export const headerBytes = 5

/** The header of a frame whose payload has this many bytes. */
export function writeHeader(into: Buffer, type: number, payloadBytes: number): void {
  into.writeUInt32BE(payloadBytes + 1, 0)
  into[4] = type
}

export function jsonFrame(type: number, json: string): Buffer {
  const size = Buffer.byteLength(json)
  const frame = Buffer.allocUnsafe(headerBytes + size)
  writeHeader(frame, type, size)
  frame.write(json, headerBytes)
  return frame
}

/** Cuts a byte stream into whole frames; for the control connection, where frames are small or rare. */
export class FrameReader {
  readonly #onFrame: (type: number, payload: Buffer) => void
  readonly #longest: number
  #parts: Buffer[] = []
  #held = 0
  #wanted = headerBytes

  /** `longest`: limit of one payload in bytes; beyond it `push` throws. */
  constructor(longest: number, onFrame: (type: number, payload: Buffer) => void) {
    this.#longest = longest
    this.#onFrame = onFrame
  }

  push(bytes: Buffer): void {
    this.#parts.push(bytes)
    this.#held += bytes.length
    if (this.#held < this.#wanted) return
    let data = this.#parts.length === 1 ? bytes : Buffer.concat(this.#parts)
    for (;;) {
      this.#wanted = headerBytes
      if (data.length < headerBytes) break
      const size = data.readUInt32BE(0) + 4
      if (size > this.#longest + headerBytes) throw new RangeError(`a frame of ${size} bytes is too long`)
      this.#wanted = size
      if (data.length < size) break
      const type = data[4] ?? 0
      const payload = data.subarray(headerBytes, size)
      data = data.subarray(size)
      this.#onFrame(type, payload)
    }
    this.#parts = data.length === 0 ? [] : [data]
    this.#held = data.length
  }
}
