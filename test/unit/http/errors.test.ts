import { connect } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import { BerthError, type ErrorCode, errorTable } from '../../../orchestrator/domain/errors.ts'
import { sendError } from '../../../orchestrator/http/errors.ts'
import type { RoutePlugin } from '../../../orchestrator/http/server.ts'
import { listeningServer, testServer } from './fake-services.ts'

/** Routes that fail in every way that a route can fail. */
const failing: RoutePlugin = (app) => {
  app.get('/fail/:code', (request) => {
    const { code } = request.params as { code: ErrorCode }
    throw new BerthError(code, `It was ${code}.`, { module: 'ocr' })
  })
  app.get('/busy', () => {
    throw new BerthError('MODULE_BUSY', 'Full.', { retryAfterSeconds: 2.2 })
  })
  app.get('/thrown', () => {
    throw new TypeError('x is not a function')
  })
  app.get('/cycle', () => {
    const details: Record<string, unknown> = {}
    details.self = details
    throw new BerthError('LOAD_FAILED', 'No.', details)
  })
  app.get('/halfway', (_request, reply) => {
    reply.hijack()
    reply.raw.writeHead(200, { 'content-type': 'text/plain' })
    reply.raw.write('half', () => sendError(reply, new BerthError('INTERNAL', 'Too late.')))
  })
}

describe('an error of every row', () => {
  const codes = Object.keys(errorTable) as ErrorCode[]

  it.each(codes)('%s answers with its status, the one body shape and the headers of a retry', async (code) => {
    const { app } = await testServer({ plugins: [failing] })
    const answer = await app.inject({ url: `/fail/${code}`, headers: { 'x-request-id': 'r-1' } })

    const { status, retryable } = errorTable[code]
    expect(answer.statusCode).toBe(status)
    expect(answer.headers['content-type']).toBe('application/json; charset=utf-8')
    expect(answer.headers['x-request-id']).toBe('r-1')
    expect(answer.json()).toEqual({
      error: {
        code,
        message: `It was ${code}.`,
        retryable,
        origin: 'orchestrator',
        requestId: 'r-1',
        details: { module: 'ocr' },
      },
    })
    if (retryable) {
      expect(answer.headers['retry-after']).toMatch(/^[1-9]\d*$/)
      expect(answer.headers).not.toHaveProperty('x-should-retry')
    } else {
      expect(answer.headers['x-should-retry']).toBe('false')
      expect(answer.headers).not.toHaveProperty('retry-after')
    }
  })
})

describe('errors', () => {
  it('round the seconds of Retry-After up', async () => {
    const { app } = await testServer({ plugins: [failing] })
    expect((await app.inject('/busy')).headers['retry-after']).toBe('3')
  })

  it('that are no BerthError become INTERNAL, with the stack in the log and not in the answer', async () => {
    const { app, logged } = await testServer({ plugins: [failing] })
    const answer = await app.inject('/thrown')
    expect(answer.statusCode).toBe(500)
    expect(answer.json().error).toMatchObject({ code: 'INTERNAL', retryable: false })
    expect(answer.body).not.toContain('errors.test.ts')
    expect(logged.find((line) => line.includes('"level":"error"'))).toContain('errors.test.ts')
  })

  it('with details that are no JSON answer without them', async () => {
    const { app } = await testServer({ plugins: [failing] })
    const answer = await app.inject('/cycle')
    expect(answer.statusCode).toBe(502)
    expect(answer.json().error).not.toHaveProperty('details')
  })

  it('after the first byte cut the connection, so that the answer does not look complete', async () => {
    const { url } = await listeningServer({ plugins: [failing] })
    const answer = fetch(`${url}/halfway`).then((started) => started.text())
    await expect(answer).rejects.toThrow()
  })

  it('of a client that left are logged only', async () => {
    let left: (() => void) | undefined
    const gone = new Promise<void>((resolve) => {
      left = resolve
    })
    const { url, services, logged } = await listeningServer()
    services.during = ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          left?.()
          reject(signal.reason)
        })
      })
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    onTestFinished(() => void socket.destroy())
    socket.write('POST /api/modules/embeddings/enable?wait=true HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await expect.poll(() => services.asked, { timeout: 8_000 }).toHaveLength(1)
    socket.destroy()
    await gone
    await expect.poll(() => logged.join(''), { timeout: 8_000 }).toContain('CLIENT_CLOSED')
    expect(logged.join('')).not.toContain('"level":"error"')
  })
})
