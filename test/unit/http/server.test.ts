import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { listen } from '../../../orchestrator/http/server.ts'
import { listeningServer, testServer } from './fake-services.ts'

async function raw(url: string, request: string): Promise<string> {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  onTestFinished(() => void socket.destroy())
  socket.write(request)
  return text(socket)
}

describe('routes that are not there', () => {
  it('an unknown path is NOT_FOUND', async () => {
    const { app } = await testServer()
    const answer = await app.inject('/api/nothing?x=1')
    expect(answer.statusCode).toBe(404)
    expect(answer.json().error).toMatchObject({ code: 'NOT_FOUND', message: 'There is no GET /api/nothing.' })
  })

  it.each([
    ['POST', '/healthz', 'GET, HEAD'],
    ['DELETE', '/api/modules', 'GET, HEAD, POST'],
    ['PUT', '/api/modules/embeddings', 'GET, HEAD, DELETE'],
    ['GET', '/api/modules/embeddings/enable', 'POST'],
    ['OPTIONS', '/api/models', 'GET, HEAD'],
  ] as const)('%s on %s is METHOD_NOT_ALLOWED and names the methods', async (method, url, allow) => {
    const { app } = await testServer()
    const answer = await app.inject({ method, url })
    expect(answer.statusCode).toBe(405)
    expect(answer.headers.allow).toBe(allow)
    expect(answer.json().error.code).toBe('METHOD_NOT_ALLOWED')
  })

  it('routes of a plugin get the same', async () => {
    const { app } = await testServer({ plugins: [(scope) => void scope.post('/extra', () => ({}))] })
    expect((await app.inject('/extra')).headers.allow).toBe('POST')
  })

  it.each(['/%zz', `/api/modules/${'x'.repeat(2_000)}`])(
    'a path that is no good is REQUEST_INVALID: %.20s',
    async (url) => {
      const { app } = await testServer()
      const answer = await app.inject(url)
      expect(answer.statusCode).toBe(400)
      expect(answer.json().error.code).toBe('REQUEST_INVALID')
    },
  )
})

describe('request ids', () => {
  it('of the client come back in header and error', async () => {
    const { app } = await testServer()
    const answer = await app.inject({ url: '/nothing', headers: { 'x-request-id': 'job-7/a' } })
    expect(answer.headers['x-request-id']).toBe('job-7/a')
    expect(answer.json().error.requestId).toBe('job-7/a')
  })

  it('lose what could break a log or a header, and are bounded', async () => {
    const { app } = await testServer()
    const answer = await app.inject({ url: '/healthz', headers: { 'x-request-id': `a b"<c>${'d'.repeat(500)}` } })
    expect(answer.headers['x-request-id']).toBe(`abc${'d'.repeat(125)}`)
  })

  it.each([undefined, '<>'])('are made where there is none (%s)', async (given) => {
    const { app } = await testServer()
    const headers = given === undefined ? {} : { 'x-request-id': given }
    const ids = await Promise.all(
      [1, 2].map(async () => (await app.inject({ url: '/healthz', headers })).headers['x-request-id']),
    )
    expect(ids[0]).toMatch(/^[0-9a-f-]{36}$/)
    expect(ids[0]).not.toBe(ids[1])
  })
})

describe('health', () => {
  it('is ready when nothing speaks against it', async () => {
    const { app, services } = await testServer()
    expect((await app.inject('/healthz')).json()).toEqual({ status: 'ok' })
    expect((await app.inject('/readyz')).json()).toEqual({ ready: true, reasons: [] })
    services.reasons = ['Docker does not answer']
    const answer = await app.inject('/readyz')
    expect(answer.statusCode).toBe(503)
    expect(answer.json()).toEqual({ ready: false, reasons: ['Docker does not answer'] })
    expect((await app.inject('/healthz')).statusCode).toBe(200)
  })

  it('is not ready when the question itself fails', async () => {
    const { app, services } = await testServer()
    Object.assign(services.system, { readiness: () => Promise.reject(new Error('no store')) })
    expect((await app.inject('/readyz')).json()).toEqual({ ready: false, reasons: ['no store'] })
  })

  it('counts requests by route, never by path', async () => {
    const { app } = await testServer()
    await app.inject('/api/modules/embeddings')
    await app.inject('/api/modules/two%20words')
    await app.inject('/random/1')
    const metrics = (await app.inject('/metrics')).body
    expect(metrics).toContain('berth_http_requests_total{route="/api/modules/:id",method="GET",status="200"} 2')
    expect(metrics).toContain('berth_http_requests_total{route="unmatched",method="any",status="404"} 1')
    expect(metrics).not.toContain('random')
    for (const line of metrics.split('\n')) expect(line).toMatch(/^(|# (HELP|TYPE) berth_.*|berth_.*)$/)
  })

  it('counts a HEAD once', async () => {
    const { app } = await testServer()
    await app.inject({ method: 'HEAD', url: '/api/models' })
    expect((await app.inject('/metrics')).body).toContain('{route="/api/models",method="HEAD",status="200"} 1')
  })
})

describe('draining', () => {
  it('new work gets SHUTTING_DOWN while health and reads still answer', async () => {
    const { app, services } = await testServer()
    app.drain()
    const answer = await app.inject({ method: 'POST', url: '/api/modules/embeddings/enable' })
    expect(answer.statusCode).toBe(503)
    expect(answer.json().error.code).toBe('SHUTTING_DOWN')
    expect(answer.headers['retry-after']).toMatch(/^\d+$/)
    expect(services.asked).toEqual([])
    expect((await app.inject('/healthz')).statusCode).toBe(200)
    expect((await app.inject('/api/modules')).statusCode).toBe(200)
    expect((await app.inject('/readyz')).json()).toEqual({ ready: false, reasons: ['shutting down'] })
  })

  it('closing ends what is waited for with SHUTTING_DOWN', async () => {
    const { app, url, services } = await listeningServer()
    services.during = ({ signal }) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    const asked = fetch(`${url}/api/modules/embeddings/enable?wait=true`, { method: 'POST' })
    await expect.poll(() => services.asked, { timeout: 8_000 }).toHaveLength(1)
    await app.close()
    expect((await asked).status).toBe(503)
  })
})

describe('connections', () => {
  it('those who wait at the port when it closes are told to come later', async () => {
    const { app, url } = await listeningServer()
    const request = 'POST /api/modules/embeddings/enable HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    const asked = Array.from({ length: 20 }, () => raw(url, request))
    await app.close()
    for (const answer of await Promise.all(asked)) expect(answer).toMatch(/^HTTP\/1\.1 503 .*SHUTTING_DOWN/s)
  })

  it('what is no HTTP gets a JSON error', async () => {
    const { url } = await listeningServer()
    const answer = await raw(url, 'HELLO\r\n\r\n')
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({ error: { code: 'REQUEST_INVALID' } })
  })

  it('a request without Host gets a JSON error; one of HTTP/1.0 needs none', async () => {
    const { url } = await listeningServer()
    const answer = await raw(url, 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n')
    expect(answer).toMatch(/^HTTP\/1\.1 400 /)
    expect(JSON.parse(answer.slice(answer.indexOf('\r\n\r\n')))).toMatchObject({
      error: { code: 'REQUEST_INVALID', details: { field: 'host' } },
    })
    expect(await raw(url, 'GET /healthz HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /)
  })

  it('headers that are too large get a JSON error', async () => {
    const { url } = await listeningServer()
    const answer = await raw(url, `GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: ${'x'.repeat(40_000)}\r\n\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 431 /)
  })

  it('headers that never end are given up on', { timeout: 20_000 }, async () => {
    const { app, url } = await listeningServer()
    app.server.headersTimeout = 50
    expect(await raw(url, 'GET /healthz HTTP/1.1\r\nHost: ')).toMatch(/^HTTP\/1\.1 408 /)
  })

  it('a port in use is a CONFIG_INVALID that names address and setting', async () => {
    const first = await listeningServer()
    const port = Number(new URL(first.url).port)
    const { app } = await testServer()
    await expect(listen(app, { host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      message: `Berth can't listen on 127.0.0.1:${port}: another program listens there.`,
      details: { field: 'listen', remedy: expect.stringContaining('BERTH_LISTEN') },
    })
  })

  it('a start that a busy machine makes slow goes on', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    onTestFinished(() => void vi.useRealTimers())
    const begun = Promise.withResolvers<void>()
    const slow = Promise.withResolvers<void>()
    const plugin = () => {
      begun.resolve()
      return slow.promise
    }
    const started = testServer({ plugins: [plugin] })
    started.catch(() => {})
    await begun.promise
    await vi.advanceTimersByTimeAsync(60_000)
    slow.resolve()
    await expect(started).resolves.toBeDefined()
  })

  it('a server that never listened closes', async () => {
    const { app } = await testServer()
    await expect(app.close()).resolves.toBeUndefined()
  })
})
