import { connect, type Socket } from 'node:net'
import { AnswerReader } from './answer-reader.ts'
import type { RunnerEndpoint } from './endpoint.ts'

/**
 * Kept-alive connections to one runner, for inferences: each carries one at a time. An HTTP client that does only what an
 * inference needs, because a general one costs as much again as all else the orchestrator does for it (docs/architecture.md).
 */
export interface Exchange {
  /** Bytes of the answer's body; `last`: no more will come. False: no more until `resume`. */
  onBody(status: number, bytes: Buffer, last: boolean): boolean
  /** The answer is complete. */
  onComplete(status: number): void
  /** The connection could not be made, or it broke; `status` 0: before anything had come back. */
  onBroken(status: number, error: Error): void
}

const connectMs = 5_000
const sweepMs = 10_000
const mostIdle = 64
/** A request up to this size is sent in one piece. */
const smallBody = 16 * 1024
const readBytes = 64 * 1024

export class Connections {
  readonly #endpoint: RunnerEndpoint
  readonly #head: string
  /** The last one used is at the end. */
  readonly #idle: Connection[] = []
  readonly #open = new Set<Connection>()
  /** All of them read into it in turns: what is read is taken out before anything else is read. */
  readonly #buffer = Buffer.allocUnsafeSlow(readBytes)
  #sweep: NodeJS.Timeout | undefined
  #closed = false

  /** `head`: request line and the headers that all requests share, each with its line end. */
  constructor(endpoint: RunnerEndpoint, head: string) {
    this.#endpoint = endpoint
    this.#head = head
  }

  /** Sends a request. `headers`: its own, each with its line end; `body`: text. Undefined: closed, nothing is sent. */
  send(headers: string, body: string, exchange: Exchange): Connection | undefined {
    if (this.#closed) return undefined
    const connection = this.#takeIdle() ?? this.#connect()
    connection.send(`${this.#head}${headers}content-length: ${Buffer.byteLength(body)}\r\n\r\n`, body, exchange)
    return connection
  }

  /** Breaks everything that is under way. */
  close(): void {
    this.#closed = true
    clearInterval(this.#sweep)
    for (const connection of [...this.#open]) connection.break(new Error('the connection was closed'))
  }

  #connect(): Connection {
    const connection: Connection = new Connection(this.#endpoint, this.#buffer, {
      onIdle: () => this.#giveBack(connection),
      onGone: () => this.#forget(connection),
    })
    this.#open.add(connection)
    return connection
  }

  #takeIdle(): Connection | undefined {
    const now = performance.now()
    for (let last = this.#idle.pop(); last !== undefined; last = this.#idle.pop()) {
      if (now < last.reusableUntil) return last
      last.break(new Error('it was idle for too long'))
    }
    return undefined
  }

  #giveBack(connection: Connection): void {
    if (this.#closed || this.#idle.length >= mostIdle) return connection.break(new Error('it is not needed'))
    this.#idle.push(connection)
    this.#sweep ??= setInterval(() => this.#sweepIdle(), sweepMs).unref()
  }

  #sweepIdle(): void {
    const now = performance.now()
    for (const connection of [...this.#idle]) {
      if (now >= connection.reusableUntil) connection.break(new Error('it was idle for too long'))
    }
    if (this.#idle.length > 0) return
    clearInterval(this.#sweep)
    this.#sweep = undefined
  }

  #forget(connection: Connection): void {
    this.#open.delete(connection)
    const index = this.#idle.indexOf(connection)
    if (index >= 0) this.#idle.splice(index, 1)
  }
}

interface Owner {
  onIdle(): void
  onGone(): void
}

export class Connection {
  /** A time of `performance.now()`. */
  reusableUntil = 0
  readonly #socket: Socket
  readonly #owner: Owner
  #exchange: Exchange | undefined
  #reader = new AnswerReader()

  constructor(endpoint: RunnerEndpoint, buffer: Buffer, owner: Owner) {
    this.#owner = owner
    const onread = { buffer, callback: (size: number) => this.#read(buffer.subarray(0, size)) }
    this.#socket =
      endpoint.kind === 'unix'
        ? connect({ path: endpoint.path, onread })
        : connect({ host: endpoint.host, port: endpoint.port, noDelay: true, onread })
    const limit = setTimeout(() => this.break(new Error(`no connection within ${connectMs / 1000} s`)), connectMs)
    this.#socket.on('connect', () => clearTimeout(limit))
    this.#socket.on('error', (error) => this.break(error))
    this.#socket.on('end', () => this.#ended())
    this.#socket.on('close', () => {
      clearTimeout(limit)
      this.break(new Error('its connection broke'))
    })
  }

  send(head: string, body: string, exchange: Exchange): void {
    this.#exchange = exchange
    if (body.length <= smallBody) {
      this.#socket.write(head + body)
      return
    }
    this.#socket.cork()
    this.#socket.write(head)
    this.#socket.write(body)
    this.#socket.uncork()
  }

  /** Reads on after `onBody` answered false. */
  resume(): void {
    this.#socket.resume()
  }

  /** Closes the connection; nothing more is heard of its exchange. */
  abort(): void {
    this.#exchange = undefined
    this.break(new Error('cancelled'))
  }

  /** Closes the connection; its exchange, if it carries one, is told why. */
  break(error: Error): void {
    const exchange = this.#exchange
    this.#exchange = undefined
    this.#socket.destroy()
    this.#owner.onGone()
    exchange?.onBroken(this.#reader.status, error)
  }

  /** Answers whether to go on reading. */
  #read(bytes: Buffer): boolean {
    let body: Buffer | undefined
    try {
      if (this.#exchange === undefined) throw new Error('it sent what nobody asked for')
      body = this.#reader.push(bytes)
    } catch (error) {
      this.break(error instanceof Error ? error : new Error(String(error)))
      return false
    }
    const more = body === undefined || this.#exchange.onBody(this.#reader.status, body, this.#reader.over)
    if (!this.#reader.over) return more
    this.#complete()
    return true
  }

  #ended(): void {
    if (this.#exchange !== undefined && this.#reader.end()) this.#complete()
    else this.break(new Error('its connection broke'))
  }

  #complete(): void {
    const exchange = this.#exchange
    const { status, reusableMs } = this.#reader
    this.#exchange = undefined
    this.#reader = new AnswerReader()
    // A server that answers before it has the whole request leaves the rest of it in our hands.
    if (reusableMs > 0 && this.#socket.writableLength === 0 && !this.#socket.destroyed) {
      this.reusableUntil = performance.now() + reusableMs
      this.#owner.onIdle()
    } else this.break(new Error('it can be used once'))
    exchange?.onComplete(status)
  }
}
