import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { PlainReply } from './plain-reply.ts'
import { PlainReader, type PlainRequest } from './request.ts'

/**
 * A server's connections for as long as they carry plain requests. The first one that is anything else goes to `node:http`
 * with its connection, with every byte of it, and for good: so there is one place that judges what is odd.
 */
export interface PlainConnections {
  /** From now on each connection closes after its answer; those that wait for a request close at once. */
  end(): void
  /** Breaks what is left. */
  destroy(): void
}

/** Takes the request over and answers true; or answers false, having touched nothing: then `node:http` gets it. */
export type TakeRequest = (request: PlainRequest, reply: PlainReply, socket: Socket) => boolean

const sweepMs = 5_000
/** A client may send head and body apart; who needs more reads than this is not plain. */
const mostReads = 4
/** What a client sends ahead of its answer is kept up to here; then it is not read on. */
const mostAhead = 64 * 1024

export function takePlainRequests(server: Server, take: TakeRequest): PlainConnections {
  const open = new Set<PlainConnection>()
  const others = server.listeners('connection')
  const group: Group = {
    take,
    connectionHeaders: keepAlive(server.keepAliveTimeout),
    ending: false,
    leave: (connection) => open.delete(connection),
    handOver(socket) {
      for (const listener of others) Reflect.apply(listener, server, [socket])
    },
  }
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    if (group.ending) group.handOver(socket)
    else open.add(new PlainConnection(socket, group))
  })
  const mostSweeps = Math.max(1, Math.ceil(server.keepAliveTimeout / sweepMs))
  const sweep = setInterval(() => {
    for (const connection of open) connection.sweep(mostSweeps)
  }, sweepMs).unref()
  return {
    end() {
      group.ending = true
      group.connectionHeaders = 'connection: close\r\n'
      clearInterval(sweep)
      for (const connection of open) connection.end()
    },
    destroy() {
      for (const connection of open) connection.destroy()
    },
  }
}

function keepAlive(timeoutMs: number): string {
  return `connection: keep-alive\r\nkeep-alive: timeout=${Math.floor(timeoutMs / 1000)}\r\n`
}

interface Group {
  readonly take: TakeRequest
  readonly leave: (connection: PlainConnection) => void
  readonly handOver: (socket: Socket) => void
  connectionHeaders: string
  ending: boolean
}

class PlainConnection {
  readonly #socket: Socket
  readonly #group: Group
  readonly #reader = new PlainReader()
  #reply: PlainReply | undefined
  /** The beginning of a request; while one is being answered, of the next. */
  #held: Buffer | undefined
  #reads = 0
  #idleSweeps = 0

  constructor(socket: Socket, group: Group) {
    this.#socket = socket
    this.#group = group
    socket.on('data', this.#onData)
    socket.on('drain', this.#onDrain)
    socket.on('end', this.#onEnd)
    socket.on('error', this.#onError)
    socket.on('close', this.#onClose)
  }

  /** Called every few seconds. */
  sweep(most: number): void {
    if (this.#reply !== undefined) return
    this.#idleSweeps += 1
    // `node:http` has the limits for those who send slowly.
    if (this.#held !== undefined) this.#handOver(this.#held)
    else if (this.#idleSweeps > most) this.#socket.destroy()
  }

  end(): void {
    if (this.#reply !== undefined) return
    if (this.#held === undefined) this.#socket.destroy()
    else this.#handOver(this.#held)
  }

  destroy(): void {
    this.#socket.destroy()
  }

  readonly #onData = (bytes: Buffer): void => {
    const all = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes])
    this.#held = undefined
    if (this.#reply === undefined) {
      this.#take(all)
      return
    }
    this.#held = all
    if (all.length > mostAhead) this.#socket.pause()
  }

  #take(bytes: Buffer): void {
    const request = this.#reader.read(bytes)
    this.#reads += 1
    if (request === 'more' && this.#reads < mostReads) {
      this.#held = bytes
      return
    }
    if (typeof request === 'string') {
      this.#handOver(bytes)
      return
    }
    this.#reads = 0
    this.#idleSweeps = 0
    const reply = new PlainReply(this.#socket, this.#group.connectionHeaders, this.#onFinish)
    this.#reply = reply
    if (this.#group.take(request, reply, this.#socket)) return
    this.#reply = undefined
    this.#handOver(bytes)
  }

  readonly #onFinish = (): void => {
    this.#reply = undefined
    if (this.#group.ending) {
      this.#socket.end()
      return
    }
    const next = this.#held
    if (next === undefined) return
    this.#held = undefined
    this.#socket.resume()
    this.#take(next)
  }

  readonly #onDrain = (): void => {
    this.#reply?.emit('drain')
  }

  /** As `node:http` has it: who has closed their side gets nothing any more. */
  readonly #onEnd = (): void => {
    this.#socket.end()
  }

  readonly #onError = (): void => {
    this.#socket.destroy()
  }

  readonly #onClose = (): void => {
    this.#group.leave(this)
    this.#reply?.broken()
  }

  #handOver(bytes: Buffer): void {
    const socket = this.#socket
    this.#group.leave(this)
    this.#held = undefined
    socket.off('data', this.#onData)
    socket.off('drain', this.#onDrain)
    socket.off('end', this.#onEnd)
    socket.off('error', this.#onError)
    socket.off('close', this.#onClose)
    socket.pause()
    if (bytes.length > 0) socket.unshift(bytes)
    this.#group.handOver(socket)
    socket.resume()
  }
}
