import { request as httpRequest, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { KeyScope } from '../../../orchestrator/domain/api-key.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { withKeys } from '../../../orchestrator/http/auth/authenticator.ts'
import { hashKey } from '../../../orchestrator/http/auth/keys.ts'
import { inferRoutes } from '../../../orchestrator/http/routes/infer.ts'
import { createDispatcher } from '../../../orchestrator/inference/dispatcher.ts'
import type { ModelRoute, RouteModels } from '../../../orchestrator/inference/types.ts'
import { eventually } from '../../support/eventually.ts'
import { chunkLine, doneLine, type FakeCall, FakeRoute } from '../../support/fake-lease.ts'
import { listeningServer, memoryKeys, type TestServerOptions } from '../../unit/http/fake-services.ts'

const busy = new BerthError('MODULE_BUSY', 'later', { retryAfterSeconds: 7 })

/** A real server over a route whose lease and runner are in the test's hand. */
async function inferServer(
  route = new FakeRoute(),
  find: RouteModels = () => route as ModelRoute,
  options: TestServerOptions = {},
) {
  const asked: unknown[] = []
  const ends: string[] = []
  const dispatcher = createDispatcher({
    route(request) {
      asked.push(request)
      return find(request)
    },
    watch: () => ({ queued() {}, started() {}, firstChunk() {}, ended: (outcome) => void ends.push(outcome) }),
  })
  const { url } = await listeningServer({
    ...options,
    plugins: [(app, { services }) => inferRoutes(app, { dispatcher, models: services.models })],
  })

  async function granted(number = 0): Promise<FakeCall> {
    await eventually(() => expect(route.waiting.length).toBeGreaterThan(number))
    route.waiting[number]?.grant()
    await eventually(() => expect(route.calls.length).toBeGreaterThan(number))
    return route.calls[number] as FakeCall
  }
  function post(
    body: unknown = {},
    headers: Record<string, string> = {},
    path = '/api/models/m/infer',
  ): Promise<Response> {
    return fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    })
  }
  return { url, route, granted, post, asked, ends }
}

/** A client that can stop reading and go away; fetch would read on by itself. */
async function slowClient(url: string, body: unknown = {}, headers: Record<string, string> = {}) {
  const request = httpRequest(`${url}/api/models/m/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
  })
  request.on('error', () => {})
  request.end(JSON.stringify(body))
  const response = new Promise<IncomingMessage>((resolve) => request.once('response', resolve))
  return { request, response, leave: () => request.destroy() }
}

const sse = { accept: 'text/event-stream' }

describe('an inference over HTTP', () => {
  it('is the NDJSON of its runner, byte by byte', async () => {
    const { granted, post, route } = await inferServer()
    const answer = post({ config: { c: 1 }, parameters: { p: 2 }, conversation: [{ role: 'user', content: 'hi' }] })
    const call = await granted()
    expect(JSON.parse(call.body)).toEqual({
      model: 'm',
      config: { c: 1 },
      parameters: { p: 2, conversation: [{ role: 'user', content: 'hi' }], key_info: { Key: 'nokey', Groups: [] } },
    })
    const text = chunkLine('größe 三') + chunkLine('x'.repeat(100_000)) + doneLine
    const bytes = Buffer.from(text)
    for (let from = 0; from < bytes.length; from += 7_777) call.send(bytes.subarray(from, from + 7_777))
    call.end()
    const { status, headers } = await answer
    expect(status).toBe(200)
    expect(headers.get('content-type')).toBe('application/x-ndjson; charset=utf-8')
    expect(headers.get('cache-control')).toContain('no-cache')
    expect(await (await answer).text()).toBe(text)
    expect(route.released).toEqual([undefined])
  })

  it('sends the first chunk as soon as it is there', async () => {
    const { granted, post } = await inferServer()
    const answer = post()
    const call = await granted()
    call.send(chunkLine('one'))
    const { body } = await answer
    const reader = body?.getReader()
    expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe(chunkLine('one'))
    call.send(doneLine)
    call.end()
    expect(Buffer.from((await reader?.read())?.value ?? []).toString()).toBe(doneLine)
  })

  it('is server-sent events for those who ask for them', async () => {
    const { granted, post } = await inferServer()
    const answer = post({}, sse)
    const call = await granted()
    const bytes = Buffer.from(chunkLine('größe') + chunkLine('two') + doneLine)
    for (const byte of bytes) call.send(Buffer.from([byte]))
    call.end()
    expect((await answer).headers.get('content-type')).toContain('text/event-stream')
    expect(await (await answer).text()).toBe(
      [chunkLine('größe'), chunkLine('two'), doneLine].map((line) => `data: ${line}\n`).join(''),
    )
  })

  it('is one JSON for those who want no stream', async () => {
    const { granted, post } = await inferServer()
    const answer = post({ stream: false })
    const call = await granted()
    call.send(chunkLine('a').slice(0, 9))
    call.send(`${chunkLine('a').slice(9)}${chunkLine('b')}{"done":true,"conversation":[1]}\n`)
    call.end()
    const { status, headers } = await answer
    expect(status).toBe(200)
    expect(headers.get('content-type')).toContain('application/json')
    expect(headers.get('server-timing')).toContain('queue;dur=')
    expect(headers.get('x-request-id')).toBeTypeOf('string')
    expect(await (await answer).json()).toEqual({
      response: { text: 'ab' },
      warnings: [],
      errors: [],
      conversation: [1],
    })
  })

  it('carries the id that its caller gave it, and its times', async () => {
    const { granted, post, route } = await inferServer()
    route.waited = { startMs: 12, loadMs: 3.25 }
    const answer = post({}, { 'x-request-id': 'mine-1' })
    const call = await granted()
    expect(call.requestId).toBe('mine-1')
    call.send(doneLine)
    call.end()
    const { headers } = await answer
    expect(headers.get('x-request-id')).toBe('mine-1')
    expect(headers.get('server-timing')).toMatch(
      /^queue;dur=[\d.]+, start;dur=12\.0, load;dur=3\.\d, first;dur=[\d.]+$/,
    )
  })

  it('of a module is SERVICE_INFERENCE, literally', async () => {
    const { asked, granted, post } = await inferServer()
    const answer = post({ name: 'm', userConfig: { c: 1 }, userParameters: { p: 2 } }, {}, '/api/modules/mod/rpc/infer')
    const call = await granted()
    call.send(doneLine)
    call.end()
    expect(await (await answer).text()).toBe(doneLine)
    expect(asked).toMatchObject([{ module: 'mod', model: 'm', config: { c: 1 }, parameters: { p: 2 } }])
  })

  it('with a body that is not its own is refused before anybody is asked', async () => {
    const { asked, post } = await inferServer()
    for (const body of [{ prompt: 'x' }, { stream: 'no' }, { conversation: {} }, [], 'text']) {
      const answer = await post(body)
      expect(answer.status, JSON.stringify(body)).toBe(400)
      expect(await answer.json()).toMatchObject({ error: { code: 'REQUEST_INVALID' } })
    }
    expect(asked).toEqual([])
  })
})

describe('a failed inference', () => {
  it.each([true, false])('before the first byte has its true status (stream: %s)', async (stream) => {
    const { granted, post, route } = await inferServer()
    const answer = post({ stream }, { 'x-request-id': 'mine-2' })
    const call = await granted()
    call.fail(new BerthError('INFERENCE_FAILED', 'KeyError: text', { traceback: 't' }, { origin: 'module' }))
    const { status, headers } = await answer
    expect(status).toBe(502)
    expect(headers.get('x-should-retry')).toBe('false')
    expect(headers.get('retry-after')).toBeNull()
    expect(headers.get('x-request-id')).toBe('mine-2')
    expect(await (await answer).json()).toEqual({
      error: {
        code: 'INFERENCE_FAILED',
        message: 'KeyError: text',
        retryable: false,
        origin: 'module',
        requestId: 'mine-2',
        details: { traceback: 't' },
      },
    })
    expect(route.released).toEqual([undefined])
  })

  it.each([true, false])('has the times until it failed (stream: %s)', async (stream) => {
    const { granted, post, route } = await inferServer()
    route.waited = { startMs: 12, loadMs: 3.25 }
    const answer = post({ stream })
    ;(await granted()).fail(new BerthError('INFERENCE_FAILED', 'no', {}, { origin: 'module' }))
    expect((await answer).headers.get('server-timing')).toMatch(/^queue;dur=[\d.]+, start;dur=12\.0, load;dur=3\.\d$/)
    const cold = post({ stream })
    await eventually(() => expect(route.waiting.length).toBe(2))
    route.waiting[1]?.reject(new BerthError('LOAD_FAILED', 'no'))
    expect((await cold).headers.get('server-timing')).toMatch(/^queue;dur=0\.0, start;dur=[\d.]+$/)
  })

  it('by an error frame has its times for those who want no stream', async () => {
    const { granted, post } = await inferServer()
    const answer = post({ stream: false })
    const call = await granted()
    call.send('{"error":{"code":"OUT_OF_MEMORY","message":"x"}}\n')
    call.end({ kind: 'error', code: 'OUT_OF_MEMORY' })
    expect((await answer).headers.get('server-timing')).toMatch(/^queue;.*first;dur=[\d.]+$/)
  })

  it('that may pass says when to come back', async () => {
    const { post, route } = await inferServer()
    const answer = post()
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.reject(busy)
    const { status, headers } = await answer
    expect([status, headers.get('retry-after'), headers.get('x-should-retry')]).toEqual([429, '7', null])
  })

  it('that has no route is told at once', async () => {
    const { post } = await inferServer(undefined, () => {
      throw new BerthError('MODEL_NOT_FOUND', 'There is no model m.')
    })
    for (const body of [{}, { stream: false }]) {
      const answer = await post(body)
      expect(answer.status).toBe(404)
      expect(await answer.json()).toMatchObject({ error: { code: 'MODEL_NOT_FOUND', retryable: false } })
    }
  })

  it('whose module says that its caller has gone is answered all the same', async () => {
    const { granted, post } = await inferServer()
    const answer = post()
    ;(await granted()).fail(new BerthError('CLIENT_CLOSED', 'gone', {}, { origin: 'module' }))
    expect((await answer).status).toBe(499)
  })

  it.each([
    ['NDJSON', {}, (text: string) => text.split('\n')],
    ['SSE', sse, (text: string) => text.split('\n\n').map((event) => event.replace(/^data: /, ''))],
  ] as const)(
    'after the first byte ends its %s with an error frame without request id',
    async (_name, headers, split) => {
      const { granted, post, route } = await inferServer()
      const answer = post({}, headers)
      const call = await granted()
      call.send(chunkLine('one'))
      call.fail(new BerthError('STREAM_INTERRUPTED', 'broke off', { module: 'mod' }))
      const { status } = await answer
      const lines = split(await (await answer).text())
      expect(status).toBe(200)
      expect(lines).toEqual([chunkLine('one').trim(), expect.any(String), ''])
      expect(JSON.parse(lines[1] ?? '')).toEqual({
        error: {
          code: 'STREAM_INTERRUPTED',
          message: 'broke off',
          retryable: false,
          origin: 'orchestrator',
          details: { module: 'mod' },
        },
      })
      expect(route.released).toEqual(['lost'])
    },
  )

  it.each([
    ['NDJSON', {}],
    ['SSE', sse],
  ] as const)('in the middle of a line of %s ends that line first', async (_name, headers) => {
    const { granted, post } = await inferServer()
    const answer = post({}, headers)
    const call = await granted()
    call.send(chunkLine('one').slice(0, 12))
    call.fail(new BerthError('STREAM_INTERRUPTED', 'broke off'))
    const lines = (await (await answer).text()).split('\n').filter((line) => line !== '')
    expect(lines).toHaveLength(2)
    expect(lines[0]?.replace(/^data: /, '')).toBe(chunkLine('one').slice(0, 12))
    expect(JSON.parse(lines[1]?.replace(/^data: /, '') ?? '')).toMatchObject({ error: { code: 'STREAM_INTERRUPTED' } })
  })

  it('by an error frame of the module is handed on as it is', async () => {
    const { granted, post } = await inferServer()
    const answer = post()
    const call = await granted()
    const frame = '{"error":{"code":"INFERENCE_FAILED","message":"x","retryable":false,"origin":"module"}}\n'
    call.send(chunkLine('one') + frame)
    call.end({ kind: 'error', code: 'INFERENCE_FAILED' })
    expect(await (await answer).text()).toBe(chunkLine('one') + frame)
  })

  it('by an error frame has its true status for those who want no stream', async () => {
    const { granted, post } = await inferServer()
    const answer = post({ stream: false })
    const call = await granted()
    call.send(`${chunkLine('one')}{"error":{"code":"OUT_OF_MEMORY","message":"x","details":{"traceback":"t"}}}\n`)
    call.end({ kind: 'error', code: 'OUT_OF_MEMORY' })
    expect((await answer).status).toBe(502)
    expect(await (await answer).json()).toMatchObject({
      error: { code: 'OUT_OF_MEMORY', origin: 'module', details: { traceback: 't' }, requestId: expect.any(String) },
    })
  })

  it('by a line that is no JSON is an error for those who want no stream', async () => {
    const { granted, post } = await inferServer()
    const answer = post({ stream: false })
    const call = await granted()
    call.send('{"chunk":\n{"done":true}\n')
    call.end()
    expect((await answer).status).toBe(502)
    expect(await (await answer).json()).toMatchObject({ error: { code: 'RUNNER_PROTOCOL' } })
  })
})

describe('a traceback', () => {
  const details = { module: 'mod', traceback: 'secret' }
  const failure = new BerthError('INFERENCE_FAILED', 'KeyError: text', details, { origin: 'module' })
  const frame = `${JSON.stringify({ error: failure.toBody() })}\n`
  const withoutSecret = { error: { code: 'INFERENCE_FAILED', message: 'KeyError: text', details: { module: 'mod' } } }

  /** Asks as a key with these scopes, lets the module fail in its own way, and answers the last line of what came. */
  async function lastLine(
    scopes: KeyScope[],
    fail: (call: FakeCall) => void,
    body = {},
    headers = {},
  ): Promise<string> {
    const keys = memoryKeys()
    keys.put({ name: 'k', hash: hashKey('secret-key'), scopes, priority: 'normal', createdAt: '2026-01-01T00:00:00Z' })
    const server = await inferServer(undefined, undefined, { config: { auth: 'keys' }, auth: withKeys(keys) })
    const answer = server.post(body, { 'x-api-key': 'secret-key', ...headers })
    fail(await server.granted())
    return (
      (await (await answer).text())
        .trim()
        .split('\n')
        .at(-1)
        ?.replace(/^data: /, '') ?? ''
    )
  }

  const ways: readonly [string, (call: FakeCall) => void, object?, object?][] = [
    ['in an error answer', (call) => call.fail(failure)],
    ['in an answer in one piece', (call) => call.fail(failure), { stream: false }],
    [
      'in the frame of a stream that ended in it',
      (call) => {
        call.send(chunkLine('one') + frame.slice(0, 5))
        call.send(frame.slice(5))
        call.end({ kind: 'error', code: 'INFERENCE_FAILED' })
      },
    ],
    [
      'in such a frame, read in one piece',
      (call) => {
        call.send(frame)
        call.end({ kind: 'error', code: 'INFERENCE_FAILED' })
      },
      { stream: false },
    ],
    [
      'in such a frame as an event',
      (call) => {
        call.send(chunkLine('one') + frame)
        call.end({ kind: 'error', code: 'INFERENCE_FAILED' })
      },
      {},
      sse,
    ],
    [
      'in the frame of a stream that broke off',
      (call) => {
        call.send(chunkLine('one'))
        call.fail(failure)
      },
    ],
  ]

  it.each(ways)('%s reaches admins only', async (_where, fail, body, headers) => {
    expect(JSON.parse(await lastLine(['admin', 'infer'], fail, body, headers))).toMatchObject({ error: { details } })
    const shown = await lastLine(['infer'], fail, body, headers)
    expect(JSON.parse(shown)).toMatchObject(withoutSecret)
    expect(shown).not.toContain('secret')
  })
})

describe('an inference that waits', () => {
  it('is told its places at once, in the stream', async () => {
    const { granted, post, route } = await inferServer()
    const answer = post({}, { 'x-request-id': 'mine-3' })
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(3)
    const { status, headers, body } = await answer
    expect([status, headers.get('x-request-id')]).toEqual([200, 'mine-3'])
    const reader = body?.getReader()
    const next = async () => Buffer.from((await reader?.read())?.value ?? []).toString()
    expect(await next()).toBe('{"queued":{"position":3}}\n')
    route.waiting[0]?.onPosition?.(1)
    expect(await next()).toBe('{"queued":{"position":1}}\n')
    const call = await granted()
    call.send(doneLine)
    call.end()
    expect(await next()).toBe(doneLine)
  })

  it.each(['served', 'refused', 'failed'] as const)('has its times in a trailer (%s)', async (ends) => {
    const { granted, route, url } = await inferServer()
    const client = await slowClient(url)
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(1)
    const response = await client.response
    expect(response.headers).toMatchObject({ trailer: 'Server-Timing' })
    expect(response.headers).not.toHaveProperty('server-timing')
    if (ends === 'refused') route.waiting[0]?.reject(busy)
    else {
      const call = await granted()
      call.send(chunkLine('one'))
      if (ends === 'failed') call.fail(new BerthError('STREAM_INTERRUPTED', 'broke off'))
      else {
        call.send(doneLine)
        call.end()
      }
    }
    await new Promise((resolve) => response.once('end', resolve).resume())
    expect(response.trailers['server-timing']).toMatch(
      ends === 'refused' ? /^queue;dur=[\d.]+, start;dur=[\d.]+$/ : /^queue;dur=.*, first;dur=[\d.]+$/,
    )
  })

  it('is answered to HTTP/1.0, which has no trailers, without them', async () => {
    const { granted, route, url } = await inferServer()
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    const body = '{}'
    socket.write(
      `POST /api/models/m/infer HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(1)
    const call = await granted()
    call.send(doneLine)
    call.end()
    const answer = await text(socket)
    expect(answer).toMatch(/^HTTP\/1\.1 200/)
    expect(answer).not.toMatch(/trailer|server-timing/i)
    expect(answer.endsWith(`{"queued":{"position":1}}\n${doneLine}`)).toBe(true)
  })

  it('and was told so is refused in the stream', async () => {
    const { post, route } = await inferServer()
    const answer = post()
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(1)
    route.waiting[0]?.reject(busy)
    const lines = (await (await answer).text()).split('\n')
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ error: { code: 'MODULE_BUSY', retryable: true } })
  })

  it('is not told of places where one JSON is wanted', async () => {
    const { post, route } = await inferServer()
    const answer = post({ stream: false })
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(1)
    route.waiting[0]?.reject(busy)
    expect((await answer).status).toBe(429)
  })
})

describe('a client that leaves', () => {
  it.each([true, false])('while it waits gives up its place (stream: %s)', async (stream) => {
    const { ends, route, url } = await inferServer()
    const client = await slowClient(url, { stream })
    await eventually(() => expect(route.waiting.length).toBe(1))
    client.leave()
    await eventually(() => expect(route.waiting[0]?.signal.aborted).toBe(true))
    expect(ends).toEqual(['cancelled'])
    expect(route.released).toEqual([])
  })

  it('in the queue, after a first frame, gives up its place', async () => {
    const { route, url } = await inferServer()
    const client = await slowClient(url)
    await eventually(() => expect(route.waiting.length).toBe(1))
    route.waiting[0]?.onPosition?.(1)
    await client.response
    client.leave()
    await eventually(() => expect(route.waiting[0]?.signal.aborted).toBe(true))
  })

  it.each([true, false])('before the first byte cancels the inference (stream: %s)', async (stream) => {
    const { ends, granted, route, url } = await inferServer()
    const client = await slowClient(url, { stream })
    const call = await granted()
    client.leave()
    await eventually(() => expect(call.cancelled).toBe(1))
    expect(route.released).toEqual([undefined])
    expect(ends).toEqual(['cancelled'])
  })

  it('in the stream cancels the inference', async () => {
    const { granted, route, url } = await inferServer()
    const client = await slowClient(url)
    const call = await granted()
    call.send(chunkLine('one'))
    await client.response
    client.leave()
    await eventually(() => expect(call.cancelled).toBe(1))
    expect(route.released).toEqual([undefined])
  })

  it('lets a module that wants it so finish', async () => {
    const { granted, route, url } = await inferServer(new FakeRoute({ onDisconnect: 'drain' }))
    const client = await slowClient(url)
    const call = await granted()
    call.send(chunkLine('one'))
    await client.response
    client.leave()
    await eventually(() => expect(call.resumed).toBe(1))
    expect(call.send(chunkLine('two'))).toBe(true)
    expect(route.released).toEqual([])
    call.end()
    expect([call.cancelled, route.released]).toEqual([0, [undefined]])
  })

  it('having read everything cancels nothing', async () => {
    const { ends, granted, post } = await inferServer()
    const answer = post()
    const call = await granted()
    call.send(doneLine)
    call.end()
    await (await answer).text()
    await eventually(() => expect(ends).toEqual(['ok']))
    expect(call.cancelled).toBe(0)
  })
})

describe('a client that reads slowly', () => {
  it.each([
    ['NDJSON', {}],
    ['SSE', sse],
  ] as const)('has its runner paused until it reads on, and gets every byte (%s)', async (_name, headers) => {
    const { granted, url } = await inferServer()
    const client = await slowClient(url, {}, headers)
    const call = await granted()
    const line = chunkLine('x'.repeat(64 * 1024))
    let sent = 0
    while (call.send(line)) sent += 1
    sent += 1
    expect(sent * line.length).toBeLessThan(16 * 1024 * 1024)
    expect(call.resumed).toBe(0)
    const response = await client.response
    let received = 0
    const expected = () => sent * line.length * 1 + doneLine.length
    response.on('data', (bytes: Buffer) => {
      received += bytes.length
    })
    await eventually(() => expect(call.resumed).toBeGreaterThan(0))
    call.send(doneLine)
    call.end()
    await new Promise((resolve) => response.once('end', resolve))
    const overhead = headers === sse ? (sent + 1) * 'data: \n'.length : 0
    expect(received).toBe(expected() + overhead)
  })

  it('and leaves while its runner is paused has it cancelled', async () => {
    const { granted, route, url } = await inferServer()
    const client = await slowClient(url)
    const call = await granted()
    const line = chunkLine('x'.repeat(64 * 1024))
    while (call.send(line));
    client.leave()
    await eventually(() => expect(call.cancelled).toBe(1))
    expect(route.released).toEqual([undefined])
  })
})
