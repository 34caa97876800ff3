import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { inferRoutes } from '../../../orchestrator/http/routes/infer.ts'
import { createDispatcher } from '../../../orchestrator/inference/dispatcher.ts'
import { eventually } from '../../support/eventually.ts'
import { chunkLine, doneLine, FakeRoute } from '../../support/fake-lease.ts'
import { fakeServices, listeningServer } from '../../unit/http/fake-services.ts'

/** Two ways lead to an inference: past fastify for plain requests, and through it. Nobody can tell which one was taken. */
async function server() {
  const route = new FakeRoute()
  route.free = true
  const dispatcher = createDispatcher({
    route({ model }) {
      if (model === 'm') return route
      throw new BerthError('MODEL_NOT_FOUND', `There is no model ${model}`, { model })
    },
    watch: () => ({ queued() {}, started() {}, firstChunk() {}, ended() {} }),
  })
  const { models } = fakeServices()
  const { url, telemetry } = await listeningServer({
    plugins: [(app) => inferRoutes(app, { dispatcher, models })],
  })
  return { port: Number(new URL(url).port), route, telemetry }
}

interface Request {
  readonly path?: string
  readonly headers?: readonly string[]
  readonly body?: string
}

/** The whole answer as it was sent; `way`: a header more, with which a request is not plain. */
async function ask(port: number, { path = '/api/models/m/infer', headers = [], body = '{}' }: Request, way: Way) {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  let text = ''
  socket.on('data', (bytes) => {
    text += bytes.toString()
  })
  const lines = [
    `POST ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'X-Request-Id: one',
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(headers.some((line) => /^content-type/i.test(line)) ? [] : ['Content-Type: application/json']),
    ...headers,
    ...(way === 'plain' ? [] : ['TE: trailers']),
  ]
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
  return {
    async whole() {
      await eventually(() => expect(isWhole(text)).toBe(true))
      socket.destroy()
      return comparable(text)
    },
  }
}
type Way = 'plain' | 'fastify'

function isWhole(text: string): boolean {
  const end = text.indexOf('\r\n\r\n')
  if (end === -1) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(text.slice(0, end))?.[1]
  const body = text.slice(end + 4)
  return length === undefined ? /0\r\n(?:[^\r]+\r\n)*\r\n$/.test(body) : Buffer.byteLength(body) >= Number(length)
}

/** Framing, order and case of headers, date and durations may differ. */
function comparable(text: string) {
  const end = text.indexOf('\r\n\r\n')
  const [status, ...lines] = text.slice(0, end).split('\r\n')
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 2)]),
  )
  const { 'transfer-encoding': chunked, 'content-length': _length, date, 'server-timing': timing, ...rest } = headers
  let body = text.slice(end + 4)
  const trailer = /\r\n0\r\nServer-Timing: [^\r]+\r\n\r\n$/.test(body)
  if (chunked !== undefined) {
    let whole = ''
    for (let size = /^([\da-f]+)\r\n/.exec(body); size?.[1] && size[1] !== '0'; size = /^([\da-f]+)\r\n/.exec(body)) {
      const bytes = Buffer.from(body)
      const start = size[0].length
      const stop = start + Number.parseInt(size[1], 16)
      whole += bytes.toString('utf8', start, stop)
      body = bytes.toString('utf8', stop + 2)
    }
    body = whole
  }
  return { status, headers: rest, dated: date !== undefined, timed: timing !== undefined, trailer, body }
}

const long = 'x'.repeat(70_000)
const requests: Readonly<Record<string, Request & { readonly status: number; readonly calls?: false }>> = {
  'a stream': { status: 200, body: '{"parameters":{"a":1.0},"conversation":[]}' },
  'a stream as SSE': { status: 200, headers: ['Accept: text/event-stream'] },
  'one JSON': { status: 200, body: '{"stream":false}' },
  'a model that is not there': { status: 404, path: '/api/models/other/infer', calls: false },
  'a body that is no JSON': { status: 400, body: '{', calls: false },
  'an unknown field': { status: 400, body: '{"colour":1}', calls: false },
  'a body over the limit': { status: 413, body: JSON.stringify({ parameters: { long } }), calls: false },
  'another content type': { status: 400, headers: ['Content-Type: text/plain'], calls: false },
  'a page from elsewhere': { status: 403, headers: ['Origin: http://evil.example'], calls: false },
  'a name that is too long': { status: 400, path: `/api/models/${'a'.repeat(1_001)}/infer`, calls: false },
  'a path that is not there': { status: 404, path: '/api/models/a/b/infer', calls: false },
}

describe('plain requests and others get the same answer:', () => {
  it.each(Object.entries(requests))('%s', async (_what, { status, calls, ...request }) => {
    const { port, route } = await server()
    async function answer(way: Way, number: number) {
      const asked = await ask(port, request, way)
      if (calls !== false) {
        await eventually(() => expect(route.calls).toHaveLength(number))
        route.calls[number - 1]?.send(chunkLine('größe') + doneLine)
        route.calls[number - 1]?.end()
      }
      return asked.whole()
    }
    const plain = await answer('plain', 1)
    const other = await answer('fastify', 2)
    expect(plain.status).toContain(` ${status} `)
    expect(plain).toEqual(other)
    expect(route.calls.map(({ body }) => body)).toEqual(route.calls.map(() => route.calls[0]?.body))
  })

  it('a stream that waits first, whose times come in a trailer', async () => {
    const { port, route } = await server()
    route.free = false
    async function answer(way: Way, number: number) {
      const asked = await ask(port, {}, way)
      await eventually(() => expect(route.waiting).toHaveLength(number))
      route.waiting[number - 1]?.onPosition?.(1)
      route.waiting[number - 1]?.grant()
      await eventually(() => expect(route.calls).toHaveLength(number))
      route.calls[number - 1]?.send(doneLine)
      route.calls[number - 1]?.end()
      return asked.whole()
    }
    const plain = await answer('plain', 1)
    expect(plain).toMatchObject({ body: `{"queued":{"position":1}}\n${doneLine}`, trailer: true })
    expect(plain).toEqual(await answer('fastify', 2))
  })

  it('a failure before the first byte', async () => {
    const { port, route } = await server()
    async function answer(way: Way, number: number) {
      const asked = await ask(port, {}, way)
      await eventually(() => expect(route.calls).toHaveLength(number))
      route.calls[number - 1]?.fail(new BerthError('MODULE_BUSY', 'later', { retryAfterSeconds: 7 }))
      return asked.whole()
    }
    const plain = await answer('plain', 1)
    expect(plain).toMatchObject({ status: 'HTTP/1.1 429 Too Many Requests', headers: { 'retry-after': '7' } })
    expect(plain).toEqual(await answer('fastify', 2))
  })

  it('and are counted alike', async () => {
    const { port, telemetry } = await server()
    const missing = { path: '/api/models/other/infer' }
    for (const way of ['plain', 'fastify'] as const) await (await ask(port, missing, way)).whole()
    const line = 'berth_http_requests_total{route="/api/models/:name/infer",method="POST",status="404"} 2'
    await eventually(async () => expect(await telemetry.metrics.expose()).toContain(line))
  })
})
