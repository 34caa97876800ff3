import type { Socket } from 'node:net'

export interface Frame {
  readonly type: string
  readonly body: Buffer
}

/** Frames of one connection, in order (berth_worker/frames.py says what they are). */
export class FrameStream {
  readonly socket: Socket
  readonly #waiting: ((frame: Frame | undefined) => void)[] = []
  readonly #ready: Frame[] = []
  #pieces: Buffer[] = []
  #bytes = 0
  #ended = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('data', (data: Buffer) => this.#take(data))
    socket.on('error', () => undefined)
    socket.on('close', () => {
      this.#ended = true
      for (const resolve of this.#waiting.splice(0)) resolve(undefined)
    })
  }

  /** The next frame; undefined once the connection has ended. */
  next(): Promise<Frame | undefined> {
    const frame = this.#ready.shift()
    if (frame !== undefined || this.#ended) return Promise.resolve(frame)
    return new Promise((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** Text and bytes are sent as they are: for bodies that JSON.stringify would change. */
  send(type: string, json: unknown): void {
    const body = Buffer.isBuffer(json) ? json : Buffer.from(typeof json === 'string' ? json : JSON.stringify(json))
    const head = Buffer.alloc(5)
    head.writeUInt32BE(body.length + 1)
    head.write(type, 4)
    this.socket.write(Buffer.concat([head, body]))
  }

  #take(data: Buffer): void {
    this.#pieces.push(data)
    this.#bytes += data.length
    while (this.#bytes >= 5) {
      const first = this.#pieces[0]
      const all = first !== undefined && first.length >= 4 ? first : Buffer.concat(this.#pieces)
      const size = 4 + all.readUInt32BE(0)
      if (this.#bytes < size) return
      const whole = Buffer.concat(this.#pieces)
      this.#give({ type: whole.toString('latin1', 4, 5), body: whole.subarray(5, size) })
      this.#pieces = whole.length > size ? [whole.subarray(size)] : []
      this.#bytes = whole.length - size
    }
  }

  #give(frame: Frame): void {
    const resolve = this.#waiting.shift()
    if (resolve === undefined) this.#ready.push(frame)
    else resolve(frame)
  }
}
