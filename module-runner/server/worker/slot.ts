import type { Socket } from 'node:net'
import { RunnerError } from '../errors.ts'
import { AttachmentSplicer, type Sink } from './attachments.ts'
import { frames, headerBytes, writeHeader } from './frames.ts'

/** Where a slot's answer goes: the reply of one HTTP request. Calls come in order; nothing comes after an end. */
export interface SlotOutput {
  /**
   * Bytes of complete or, for very long ones, partial lines, as they came in one read; `last`: the terminal frame is in
   * them. False: wait with the next until `Slot.resume`.
   */
  write(bytes: Buffer | string, last: boolean): boolean
  /** The inference failed before its first line: an error line as the worker sent it. */
  fail(errorLine: Buffer): void
  /** The connection ended, or what came on it makes no sense. `midLine`: the last line written is incomplete. */
  broken(error: RunnerError, midLine: boolean): void
}

/** The pool that a slot belongs to. */
export interface SlotOwner {
  /** The inference has ended with its terminal frame: the slot can serve another. */
  slotIdle(slot: Slot): void
  /** The connection is gone. `midway`: an inference waits for `end` to tell it why. */
  slotClosed(slot: Slot, midway: boolean): void
}

/** A line up to this size is handed on whole, so that a worker that dies within it leaves no half line behind. */
const heldBytes = 256 * 1024

/**
 * One connection to the worker with a thread of its own there: serves one inference after the other. Chunk frames are
 * lines already, so their bytes are handed on as they are.
 */
export class Slot implements Sink {
  readonly id: number
  readonly #socket: Socket
  readonly #nonce: string
  readonly #owner: SlotOwner
  #output: SlotOutput | undefined
  /** The start of a frame whose rest has not come yet. */
  #held: Buffer | undefined
  /** Bytes to come of a line that is handed on in parts, and whether it is the terminal one. */
  #partial = 0
  #splicer: AttachmentSplicer | undefined
  #terminal = false
  #begun = false
  /** What one read gave, to be handed on at once. */
  #lines: Buffer[] = []

  constructor(id: number, socket: Socket, nonce: string, owner: SlotOwner) {
    this.id = id
    this.#socket = socket
    this.#nonce = nonce
    this.#owner = owner
    socket.on('data', (bytes: Buffer) => this.#read(bytes))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => owner.slotClosed(this, this.#output !== undefined))
  }

  get closed(): boolean {
    return this.#socket.destroyed
  }

  /** Sends an inference; `body` is an InferRequest as JSON text. */
  start(body: readonly Buffer[], output: SlotOutput): void {
    this.#output = output
    this.#begun = false
    let size = 0
    for (const part of body) size += part.length
    if (body.length === 1 && size < heldBytes) {
      const frame = Buffer.allocUnsafe(headerBytes + size)
      writeHeader(frame, frames.infer, size)
      body[0]?.copy(frame, headerBytes)
      this.#socket.write(frame)
      return
    }
    const header = Buffer.allocUnsafe(headerBytes)
    writeHeader(header, frames.infer, size)
    this.#socket.cork()
    this.#socket.write(header)
    for (const part of body) this.#socket.write(part)
    this.#socket.uncork()
  }

  resume(): void {
    this.#socket.resume()
  }

  /** Cancels what runs, and the slot is gone. Nothing more goes to its output. */
  destroy(): void {
    this.#output = undefined
    this.#socket.destroy()
  }

  write(bytes: Buffer): void {
    if (bytes.length > 0) this.#lines.push(bytes)
  }

  /** Base64 is handed on at once: as a string it needs no copy of ours. */
  writeLatin1(text: string): void {
    this.#flush()
    this.#begun = true
    if (this.#output !== undefined && !this.#output.write(text, false)) this.#socket.pause()
  }

  #read(bytes: Buffer): void {
    if (this.#output === undefined) return
    try {
      this.#take(this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]))
    } catch (error) {
      this.end(new RunnerError('RUNNER_PROTOCOL', `The worker sent a frame that makes no sense: ${String(error)}`))
    }
  }

  #take(bytes: Buffer): void {
    this.#held = undefined
    let at = 0
    while (at < bytes.length && this.#output !== undefined) {
      if (this.#splicer !== undefined) {
        at = this.#splicer.consume(bytes, at, this)
        if (this.#splicer.finished) this.#splicer = undefined
      } else if (this.#partial > 0) {
        const end = Math.min(at + this.#partial, bytes.length)
        this.#partial -= end - at
        this.#lines.push(bytes.subarray(at, end))
        at = end
      } else {
        const next = this.#begin(bytes, at)
        if (next === at) break
        at = next
      }
      if (this.#terminal && this.#splicer === undefined && this.#partial === 0) {
        if (at < bytes.length) throw new RangeError('bytes after the terminal frame')
        this.#finish()
        return
      }
    }
    if (this.#output === undefined) return
    if (at < bytes.length) this.#held = bytes.subarray(at)
    this.#flush()
  }

  /** The frame that starts at `at`. Answers the position after what it took: `at` itself when too little is there. */
  #begin(bytes: Buffer, at: number): number {
    if (bytes.length - at < headerBytes) return at
    const size = bytes.readUInt32BE(at) - 1
    const type = bytes[at + 4]
    const start = at + headerBytes
    switch (type) {
      case frames.chunk:
      case frames.done:
        this.#terminal = type === frames.done
        if (bytes.length - start >= size) {
          this.#lines.push(bytes.subarray(start, start + size))
          return start + size
        }
        if (size <= heldBytes) {
          this.#terminal = false
          return at
        }
        this.#partial = size
        return start
      case frames.chunkWithFiles:
      case frames.doneWithFiles:
        this.#terminal = type === frames.doneWithFiles
        this.#splicer = new AttachmentSplicer(size, this.#nonce)
        return start
      case frames.error:
        if (bytes.length - start < size) return at
        this.#endWithError(bytes.subarray(start, start + size))
        return start + size
      default:
        throw new RangeError(`unknown type ${type}`)
    }
  }

  #endWithError(line: Buffer): void {
    const output = this.#output
    if (this.#begun || this.#lines.length > 0) {
      this.#lines.push(line)
      this.#terminal = true
      return
    }
    this.#output = undefined
    output?.fail(line)
    this.#idle()
  }

  #finish(): void {
    const output = this.#output
    this.#terminal = false
    this.#output = undefined
    output?.write(this.#takeLines(), true)
    this.#idle()
  }

  #idle(): void {
    if (this.#socket.isPaused()) this.#socket.resume()
    this.#owner.slotIdle(this)
  }

  #flush(): void {
    if (this.#lines.length === 0) return
    this.#begun = true
    const bytes = this.#takeLines()
    if (this.#output !== undefined && !this.#output.write(bytes, false)) this.#socket.pause()
  }

  #takeLines(): Buffer {
    const lines = this.#lines
    this.#lines = []
    return lines.length === 1 && lines[0] !== undefined ? lines[0] : Buffer.concat(lines)
  }

  /** Ends what runs with this error, and the slot is gone. */
  end(error: RunnerError): void {
    const output = this.#output
    const midLine = this.#partial > 0 || this.#splicer !== undefined
    this.destroy()
    output?.broken(error, midLine)
  }
}
