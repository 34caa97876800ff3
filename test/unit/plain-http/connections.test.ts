import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  type PlainConnections,
  type TakeRequest,
  takePlainRequests,
} from '../../../module-runner/plain-http/connections.ts'
import type { PlainReply } from '../../../module-runner/plain-http/plain-reply.ts'

/** A server that answers plain requests with `take` and all others with what Node read of them. */
async function serve(take: TakeRequest): Promise<{ readonly port: number; readonly plain: PlainConnections }> {
  const server = createServer((request, response) => void answerByNode(request, response))
  const plain = takePlainRequests(server, take)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => {
    plain.destroy()
    server.closeAllConnections()
    server.close()
  })
  return { port: (server.address() as AddressInfo).port, plain }
}

async function answerByNode(request: IncomingMessage, response: ServerResponse): Promise<void> {
  let body = ''
  for await (const part of request) body += part
  response.end(`node ${request.method} ${request.url} ${body}`)
}

const echo: TakeRequest = ({ path, body }, reply) => {
  reply.writeHead(200, {})
  reply.end(`plain ${path} ${body}`)
  return true
}

interface Client {
  readonly socket: Socket
  readonly received: () => string
  send(text: string): void
  until(text: string): Promise<void>
}

async function client(port: number): Promise<Client> {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  await once(socket, 'connect')
  onTestFinished(() => void socket.destroy())
  let received = ''
  socket.on('data', (bytes) => {
    received += bytes.toString('latin1')
  })
  return {
    socket,
    received: () => received,
    send: (text) => void socket.write(text),
    until: (text) => vi.waitFor(() => expect(received).toContain(text), { timeout: 5_000, interval: 2 }),
  }
}

/** Lets what was sent arrive by itself, most often; the test holds however it comes. */
async function nextTurns(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await nextTurn()
}

const post = (path: string, body: string, extra = '') =>
  `POST ${path} HTTP/1.1\r\nhost: a\r\ncontent-length: ${Buffer.byteLength(body)}\r\n${extra}\r\n${body}`

describe('a connection', () => {
  it('carries one plain request after the other, whole or in parts', async () => {
    const { port } = await serve(echo)
    const { send, until, received } = await client(port)
    send(post('/a', '1'))
    await until('plain /a 1')
    const text = post('/b', '22')
    send(text.slice(0, -2))
    await nextTurns()
    send(text.slice(-2))
    await until('plain /b 22')
    expect(received()).toMatch(
      /^HTTP\/1\.1 200 OK\r\ndate: .* GMT\r\nconnection: keep-alive\r\nkeep-alive: timeout=\d+\r\n/,
    )
    expect(received()).toContain('content-length: 10\r\n\r\nplain /a 1HTTP/1.1')
  })

  it('goes to node:http with the first request that is not plain, and loses nothing', async () => {
    const { port } = await serve(echo)
    const { send, until, received } = await client(port)
    send(post('/a', '1'))
    await until('plain /a 1')
    send(post('/b?c', '2'))
    await until('node POST /b?c 2')
    send(post('/d', '3'))
    await until('node POST /d 3')
    expect(received()).not.toContain('plain /d')
  })

  it('goes there with what had come of a request, and Node reads the rest', async () => {
    const { port } = await serve(echo)
    const { send, until } = await client(port)
    const text = post('/a', 'x'.repeat(200_000))
    for (let at = 0; at < text.length; at += 40_000) {
      send(text.slice(at, at + 40_000))
      await nextTurns()
    }
    await until(`node POST /a ${'x'.repeat(200_000)}`)
  })

  it('goes there with a request that is declined', async () => {
    const { port } = await serve((request, reply, socket) => request.path !== '/no' && echo(request, reply, socket))
    const { send, until } = await client(port)
    send(post('/no', '1'))
    await until('node POST /no 1')
  })

  it('answers pipelined requests in their order', async () => {
    const replies: PlainReply[] = []
    const { port } = await serve(({ path }, reply) => {
      if (path !== '/slow') return false
      replies.push(reply)
      return true
    })
    const { send, until, received } = await client(port)
    send(post('/slow', ''))
    await vi.waitFor(() => expect(replies).toHaveLength(1))
    send(`${post('/b', '2')}GET /c HTTP/1.1\r\nhost: a\r\n\r\n`)
    expect(received()).toBe('')
    replies[0]?.writeHead(200, {})
    replies[0]?.end('slow')
    await until('node GET /c')
    const bodies = [...received().matchAll(/(slow|node POST \/b 2|node GET \/c)/g)].map(([body]) => body)
    expect(bodies).toEqual(['slow', 'node POST /b 2', 'node GET /c'])
  })
})

describe('an answer', () => {
  it('that goes on later comes in chunks, each as soon as its turn ends', async () => {
    let reply: PlainReply | undefined
    const { port } = await serve((_request, own) => {
      reply = own
      own.writeHead(200, { 'content-type': 'text/plain' })
      own.write('one ')
      own.write(Buffer.from('more'))
      return true
    })
    const { send, until, received } = await client(port)
    send(post('/a', ''))
    await until('\r\n\r\n8\r\none more\r\n')
    expect(received()).toContain('transfer-encoding: chunked\r\n')
    reply?.write('é')
    await until('\r\n2\r\nÃ©\r\n')
    reply?.end('last')
    await until('4\r\nlast\r\n0\r\n\r\n')
    send(post('/b', ''))
    await vi.waitFor(() => expect(received().match(/HTTP\/1\.1 200/g)).toHaveLength(2))
  })

  it('tells a writer to wait while its reader is slow, and when to go on', async () => {
    let reply: PlainReply | undefined
    const { port } = await serve((_request, own) => {
      reply = own
      own.writeHead(200, {})
      return true
    })
    const { socket, send, received } = await client(port)
    socket.pause()
    send(post('/a', ''))
    await vi.waitFor(() => expect(reply).toBeDefined())
    const block = Buffer.alloc(1024 * 1024, 'x')
    let blocks = 1
    while (reply?.write(block)) blocks += 1
    expect(blocks).toBeLessThan(64)
    const drained = new Promise<void>((resolve) => reply?.once('drain', resolve))
    socket.resume()
    await drained
    reply?.end()
    await vi.waitFor(() => expect(received().endsWith('0\r\n\r\n')).toBe(true), { timeout: 5_000 })
    expect(received().match(/x{2,}/g)?.join('')).toHaveLength(blocks * block.length)
  })

  it('closes once: when it is finished, or when its client has gone', async () => {
    const closes: string[] = []
    const { port } = await serve(({ path }, reply) => {
      reply.on('close', () => closes.push(`${path} ${reply.writableFinished}`))
      reply.writeHead(200, {})
      if (path === '/whole') reply.end('done')
      else reply.write('begun')
      return true
    })
    const { socket, send, until } = await client(port)
    send(post('/whole', ''))
    await until('done')
    send(post('/cut', ''))
    await until('begun')
    socket.destroy()
    await vi.waitFor(() => expect(closes).toEqual(['/whole true', '/cut false']))
  })
})

describe('the end', () => {
  it('closes what waits, and what is busy after its answer', async () => {
    const replies: PlainReply[] = []
    const { port, plain } = await serve((_request, reply) => {
      replies.push(reply)
      reply.writeHead(200, {})
      return true
    })
    const idle = await client(port)
    const busy = await client(port)
    busy.send(post('/a', ''))
    await vi.waitFor(() => expect(replies).toHaveLength(1))
    const gone = [once(idle.socket, 'close'), once(busy.socket, 'close')]
    plain.end()
    await gone[0]
    replies[0]?.end('done')
    await busy.until('done')
    await gone[1]
  })
})
