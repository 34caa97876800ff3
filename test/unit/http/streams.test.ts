import { connect } from 'node:net'
import Fastify from 'fastify'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { LogRecord } from '../../../orchestrator/domain/views.ts'
import { sendRecords } from '../../../orchestrator/http/line-stream.ts'
import { listeningServer, testServer } from './fake-services.ts'

const record = (message: string): LogRecord => ({
  time: '2026-01-01T00:00:00.000Z',
  level: 'info',
  source: 'module',
  message,
})

/** Reads a stream until the text says what is waited for. */
async function readUntil(reader: ReadableStreamDefaultReader<Uint8Array>, wanted: string): Promise<string> {
  const decoder = new TextDecoder()
  let text = ''
  while (!text.includes(wanted)) {
    const { done, value } = await reader.read()
    if (done) throw new Error(`The stream ended after ${JSON.stringify(text)}`)
    text += decoder.decode(value, { stream: true })
  }
  return text
}

function readerOf(answer: Response): ReadableStreamDefaultReader<Uint8Array> {
  if (answer.body === null) throw new Error('The answer has no body')
  return answer.body.getReader()
}

describe("a module's log", () => {
  it('is NDJSON, oldest first', async () => {
    const { app, services } = await testServer()
    services.records.push(record('one'), record('two\nlines'), record('three'))
    const answer = await app.inject('/api/modules/embeddings/logs')
    expect(answer.headers['content-type']).toContain('application/x-ndjson')
    expect(
      answer.body
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(services.records)
    expect((await app.inject('/api/modules/embeddings/logs?tail=1')).body).toBe(`${JSON.stringify(record('three'))}\n`)
  })

  it('is server-sent events for those who ask for them', async () => {
    const { app, services } = await testServer()
    services.records.push(record('one'))
    const answer = await app.inject({ url: '/api/modules/embeddings/logs', headers: { accept: 'text/event-stream' } })
    expect(answer.headers['content-type']).toContain('text/event-stream')
    expect(answer.headers['x-request-id']).toBeTypeOf('string')
    expect(answer.body).toContain(`data: ${JSON.stringify(record('one'))}\n\n`)
  })

  it('followed without a line yet has its headers at once, and ends its reading when the client leaves', async () => {
    const { url, services } = await listeningServer()
    let ended = false
    Object.assign(services.modules, {
      async *logs(_id: string, { signal }: { signal: AbortSignal }) {
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        ended = true
      },
    })
    const leave = new AbortController()
    const answer = await fetch(`${url}/api/modules/embeddings/logs?follow=true`, { signal: leave.signal })
    expect(answer.status).toBe(200)
    leave.abort()
    await expect.poll(() => ended, { timeout: 8_000 }).toBe(true)
  })

  it('that breaks on the way ends with an error record', async () => {
    const { app, services } = await testServer()
    Object.assign(services.modules, {
      async *logs() {
        yield record('one')
        throw new Error('the disk is gone')
      },
    })
    const lines = (await app.inject('/api/modules/embeddings/logs')).body.trim().split('\n')
    expect(JSON.parse(lines[1] ?? '').error).toMatchObject({ code: 'INTERNAL' })
  })

  it('is read only as fast as the client takes it', async () => {
    const { url, services } = await listeningServer()
    let given = 0
    Object.assign(services.modules, {
      async *logs(_id: string, { signal }: { signal: AbortSignal }) {
        while (!signal.aborted) {
          given += 1
          yield record('x'.repeat(100_000))
        }
      },
    })
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.pause()
    socket.write('GET /api/modules/embeddings/logs HTTP/1.1\r\nHost: localhost\r\n\r\n')
    let before = -1
    await expect
      .poll(
        () => {
          const same = given === before && given > 0
          before = given
          return same
        },
        { interval: 200, timeout: 8_000 },
      )
      .toBe(true)
    expect(given).toBeLessThan(500)
  })
})

describe('events', () => {
  it('come as they happen, with their id', async () => {
    const { url, telemetry } = await listeningServer()
    const answer = await fetch(`${url}/api/events`)
    expect(answer.headers.get('content-type')).toContain('text/event-stream')
    const reader = readerOf(answer)
    await readUntil(reader, ': begin\n\n')
    const event = telemetry.events.publish({
      type: 'state',
      module: 'ocr',
      from: 'idle',
      to: 'loading',
      cause: 'a request',
    })
    expect(await readUntil(reader, '\n\n')).toBe(`id: ${event.id}\ndata: ${JSON.stringify(event)}\n\n`)
    await reader.cancel()
  })

  it('resume after Last-Event-ID', async () => {
    const { url, telemetry } = await listeningServer()
    const [first] = ['one', 'two', 'three'].map((cause) => telemetry.events.publish({ type: 'state', cause }))
    const answer = await fetch(`${url}/api/events`, { headers: { 'last-event-id': String(first?.id) } })
    const reader = readerOf(answer)
    const text = await readUntil(reader, 'three')
    expect(text).toContain('"cause":"two"')
    expect(text).not.toContain('"cause":"one"')
    await reader.cancel()
  })

  it('say so in an event of its own when some are no longer kept, and go on with the oldest', async () => {
    const { url, telemetry } = await listeningServer()
    const first = telemetry.events.publish({ type: 'state', cause: 'first' })
    for (let count = 0; count < 5_001; count += 1) telemetry.events.publish({ type: 'state', cause: `later ${count}` })
    const answer = await fetch(`${url}/api/events?after=${first.id}&follow=false`)
    const [begin, missed, oldest] = (await answer.text()).split('\n\n')
    expect(begin).toBe(': begin')
    expect(missed).toContain('"type":"missed"')
    expect(missed?.split('\n')[0]).toBe(`id: ${first.id + 1}`)
    expect(oldest).toContain('"cause":"later 1"')
  })

  it('of another run of Berth are said to be missed, and all that there are of this one follow', async () => {
    const before = await listeningServer()
    const last = before.telemetry.events.publish({ type: 'state', cause: 'before' })
    const { url, telemetry } = await listeningServer()
    telemetry.events.publish({ type: 'state', cause: 'since' })
    const headers = { 'last-event-id': String(last.id), accept: 'application/x-ndjson' }
    const answer = await (await fetch(`${url}/api/events?follow=false`, { headers })).text()
    const records = answer
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(records).toMatchObject([{ type: 'missed' }, { cause: 'since' }])
  })

  it('of one module, the last so many of those kept', async () => {
    const { url, telemetry } = await listeningServer()
    for (const module of ['a', 'b', 'a', 'a', 'b']) telemetry.events.publish({ type: 'state', module, cause: 'x' })
    const query = 'module=a&tail=2&follow=false'
    const answer = await fetch(`${url}/api/events?${query}`, { headers: { accept: 'application/x-ndjson' } })
    const ids = (await answer.text())
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line).id)
    const kept = telemetry.events.recent()
    expect(ids).toEqual([kept[2]?.id, kept[3]?.id])
  })

  it('are not kept for a client that takes nothing: it is dropped', async () => {
    let given = 0
    const app = Fastify()
    app.get('/', async (_request, reply) => {
      const gone = new AbortController()
      reply.raw.once('close', () => gone.abort())
      async function* records() {
        for (;;) {
          given += 1
          yield record('x'.repeat(100_000))
        }
      }
      return sendRecords(reply, records(), { format: 'ndjson', signal: gone.signal, stalledMs: 20 })
    })
    onTestFinished(() => app.close())
    let dropped = false
    app.server.on('connection', (each) => each.once('close', () => (dropped = true)))
    const url = new URL(await app.listen({ host: '127.0.0.1', port: 0 }))
    const socket = connect(Number(url.port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.pause()
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect.poll(() => dropped, { timeout: 8_000 }).toBe(true)
    expect(given).toBeLessThan(1_000)
  })

  it('end when the server closes', async () => {
    const { app, url } = await listeningServer()
    const answer = await fetch(`${url}/api/events`, { headers: { accept: 'application/x-ndjson' } })
    await app.close()
    expect(await answer.text()).toBe('')
  })
})
