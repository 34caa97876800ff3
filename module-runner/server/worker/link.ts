import { randomBytes, timingSafeEqual } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { isRecord } from '../errors.ts'
import { frames, headerBytes } from './frames.ts'

/**
 * The Unix socket that workers connect to. Each connection tells in its first frame what it is; the token in it says of
 * which worker, so that a worker that is being replaced can't be taken for the new one.
 */
export interface Hello {
  readonly role: 'control' | 'slot'
  readonly slot?: number
  readonly attachmentNonce?: string
  readonly python?: string
}

/** `rest`: what came together with the hello. */
export type Arrival = (hello: Hello, socket: Socket, rest: Buffer) => void

const helloMs = 30_000
const longestHello = 64 * 1024

export class WorkerLink {
  readonly path: string
  readonly #server: Server
  readonly #workers = new Map<string, Arrival>()

  private constructor(path: string) {
    this.path = path
    this.#server = createServer((socket) => this.#greet(socket))
  }

  /** Listens on `path`, taking the place of a socket that a killed runner left there. */
  static async listen(path: string): Promise<WorkerLink> {
    await rm(path, { force: true })
    const link = new WorkerLink(path)
    await new Promise<void>((resolve, reject) => {
      link.#server.once('error', reject)
      link.#server.listen(path, () => resolve())
    })
    return link
  }

  /** Gives the token whose connections go to this worker from now on. */
  admit(arrival: Arrival): string {
    const token = randomBytes(24).toString('hex')
    this.#workers.set(token, arrival)
    return token
  }

  forget(token: string): void {
    this.#workers.delete(token)
  }

  close(): void {
    this.#server.close()
  }

  #greet(socket: Socket): void {
    socket.on('error', () => socket.destroy())
    const limit = setTimeout(() => socket.destroy(), helloMs)
    socket.on('close', () => clearTimeout(limit))
    let held: Buffer = Buffer.alloc(0)
    const onData = (bytes: Buffer) => {
      held = held.length === 0 ? bytes : Buffer.concat([held, bytes])
      if (held.length < headerBytes) return
      const end = held.readUInt32BE(0) + 4
      if (held.length < end && end <= longestHello) return
      socket.off('data', onData)
      clearTimeout(limit)
      const hello =
        held[4] === frames.hello && end <= longestHello ? readHello(held.subarray(headerBytes, end)) : undefined
      const arrival = hello && this.#find(hello.token)
      if (hello === undefined || arrival === undefined) socket.destroy()
      else arrival(hello, socket, held.subarray(end))
    }
    socket.on('data', onData)
  }

  #find(token: string): Arrival | undefined {
    const given = Buffer.from(token)
    for (const [expected, arrival] of this.#workers) {
      const wanted = Buffer.from(expected)
      if (given.length === wanted.length && timingSafeEqual(given, wanted)) return arrival
    }
    return undefined
  }
}

function readHello(payload: Buffer): (Hello & { readonly token: string }) | undefined {
  let value: unknown
  try {
    value = JSON.parse(payload.toString('utf8'))
  } catch {
    return undefined
  }
  if (!isRecord(value) || typeof value.token !== 'string') return undefined
  if (value.role !== 'control' && value.role !== 'slot') return undefined
  return {
    token: value.token,
    role: value.role,
    ...(typeof value.slot === 'number' ? { slot: value.slot } : {}),
    ...(typeof value.attachmentNonce === 'string' ? { attachmentNonce: value.attachmentNonce } : {}),
    ...(typeof value.python === 'string' ? { python: value.python } : {}),
  }
}
