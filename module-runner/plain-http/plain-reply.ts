import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { httpDate } from './http-date.ts'
import type { Reply } from './reply.ts'

/** What fits is sent as one string: the system is asked once, and no buffer has to be kept for it. */
const smallBytes = 8 * 1024
/** More than this is not put off to the end of the turn. */
const mostHeldBytes = 64 * 1024

/**
 * The answer to a plain request. What is written in one turn of the event loop leaves in one write at its end, head
 * included; an answer that is complete by then has a length, any other one comes in chunks.
 */
export class PlainReply extends EventEmitter implements Reply {
  headersSent = false
  statusCode = 200
  destroyed = false
  writableEnded = false
  writableFinished = false
  readonly #socket: Socket
  readonly #connectionHeaders: string
  readonly #onFinish: () => void
  #head = ''
  #trailers = ''
  #framing: 'open' | 'length' | 'chunked' = 'open'
  #held: (Buffer | string)[] = []
  #heldBytes = 0
  #flushes = false

  /** `connectionHeaders`: lines that say how the connection goes on; `onFinish`: it is free for the next request. */
  constructor(socket: Socket, connectionHeaders: string, onFinish: () => void) {
    super()
    this.#socket = socket
    this.#connectionHeaders = connectionHeaders
    this.#onFinish = onFinish
  }

  writeHead(status: number, headers: Readonly<Record<string, string | number>>): void {
    this.headersSent = true
    this.statusCode = status
    let head = `HTTP/1.1 ${status} ${reasonOf(status)}\r\n`
    for (const name in headers) {
      head += `${name}: ${headers[name]}\r\n`
      if (name === 'content-length') this.#framing = 'length'
    }
    this.#head = `${head}date: ${httpDate()}\r\n${this.#connectionHeaders}`
    this.#flushLater()
  }

  write(data: Buffer | string, encoding: 'utf8' | 'latin1' = 'utf8'): boolean {
    if (this.destroyed || this.writableEnded) return true
    this.#hold(data, encoding)
    if (this.#heldBytes > mostHeldBytes) return this.#flush()
    this.#flushLater()
    return !this.#socket.writableNeedDrain
  }

  end(data?: Buffer | string): void {
    if (this.destroyed || this.writableEnded) return
    if (data !== undefined) this.#hold(data, 'utf8')
    this.writableEnded = true
    this.#flush()
  }

  addTrailers(headers: Readonly<Record<string, string>>): void {
    for (const name in headers) this.#trailers += `${name}: ${headers[name]}\r\n`
  }

  destroy(): void {
    this.#socket.destroy()
  }

  /** The connection has broken. */
  broken(): void {
    if (this.destroyed || this.writableFinished) return
    this.destroyed = true
    this.emit('close')
  }

  #hold(data: Buffer | string, encoding: 'utf8' | 'latin1'): void {
    const piece = typeof data === 'string' && encoding === 'utf8' ? Buffer.from(data) : data
    if (piece.length === 0) return
    this.#held.push(piece)
    this.#heldBytes += piece.length
  }

  #flushLater(): void {
    if (this.#flushes) return
    this.#flushes = true
    process.nextTick(endTurn, this)
  }

  /** What the turn has written goes out. */
  endTurn(): void {
    this.#flushes = false
    if (!this.destroyed && !this.writableEnded) this.#flush()
  }

  #flush(): boolean {
    const size = this.#heldBytes
    if (size === 0 && this.#head === '' && !this.writableEnded) return true
    let before = this.#head
    let after = ''
    if (this.#framing === 'open') {
      this.#framing = this.writableEnded && this.#trailers === '' ? 'length' : 'chunked'
      before += this.#framing === 'length' ? `content-length: ${size}\r\n` : 'transfer-encoding: chunked\r\n'
    }
    if (this.#head !== '') before += '\r\n'
    if (this.#framing === 'chunked') {
      if (size > 0) {
        before += `${size.toString(16)}\r\n`
        after = '\r\n'
      }
      if (this.writableEnded) after += `0\r\n${this.#trailers}\r\n`
    }
    const pieces = this.#held
    this.#head = ''
    this.#held = []
    this.#heldBytes = 0
    return this.#send(before, pieces, after, size)
  }

  #send(before: string, pieces: readonly (Buffer | string)[], after: string, size: number): boolean {
    const socket = this.#socket
    const sent = this.writableEnded ? this.#sent : undefined
    if (size <= smallBytes) {
      let text = before
      for (const piece of pieces) text += typeof piece === 'string' ? piece : piece.toString('latin1')
      return socket.write(text + after, 'latin1', sent)
    }
    socket.cork()
    socket.write(before, 'latin1')
    for (const piece of pieces) typeof piece === 'string' ? socket.write(piece, 'latin1') : socket.write(piece)
    const more = socket.write(after, 'latin1', sent)
    socket.uncork()
    return more
  }

  readonly #sent = (error?: Error | null): void => {
    // A connection that broke tells it by its own close.
    if (error || this.destroyed) return
    this.writableFinished = true
    this.emit('close')
    this.#onFinish()
  }
}

function endTurn(reply: PlainReply): void {
  reply.endTurn()
}

/** As in server.ts of the runner: `node:http` imported as a module would take 13 MB more. */
function reasonOf(status: number): string {
  return status === 200 ? 'OK' : (process.getBuiltinModule('node:http').STATUS_CODES[status] ?? '')
}
