import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { parseJsonBody } from '../../../orchestrator/http/json-body.ts'
import type { RoutePlugin } from '../../../orchestrator/http/server.ts'
import { listeningServer, testServer } from './fake-services.ts'

const json = { 'content-type': 'application/json' }
const echo: RoutePlugin = (app) => {
  app.post('/echo', (request) => ({ got: request.body ?? 'nothing' }))
}

async function post(payload: string | Buffer, headers: Record<string, string> = json) {
  const { app } = await testServer({ plugins: [echo] })
  return app.inject({ method: 'POST', url: '/echo', headers, payload })
}

describe('a body that is no JSON', () => {
  it.each([
    ['{"a":a}', 'unexpected "a"', 5],
    ['{"a":1,}', 'unexpected "}"', 7],
    ['[1,2', 'it ends too early', 4],
    ['{"a":1}x', 'there is more after its end', 7],
    ['{"a":"b\n"}', 'a bad character in a string', 7],
    ['"\\x"', 'a bad character in a string', 1],
    ['{"a":"b', 'a string is not closed', 7],
    ['{a:1}', 'unexpected "a"', 1],
    ['{"a" 1}', 'unexpected "1"', 5],
    ['01', 'unexpected "0"', 0],
    ['nul', 'unexpected "n"', 0],
  ])('%j is REQUEST_INVALID at its place', async (body, problem, position) => {
    const answer = await post(body)
    expect(answer.statusCode).toBe(400)
    const { error } = answer.json()
    expect(error).toMatchObject({ code: 'REQUEST_INVALID', details: { position, line: 1, column: position + 1 } })
    expect(error.message).toContain(problem)
  })

  it('counts lines', async () => {
    expect((await post('{\n  "a": 1\n  "b": 2\n}')).json().error.details).toMatchObject({ line: 3, column: 3 })
  })

  it('a large one is refused without running out of stack', () => {
    const large = Buffer.from(`{"a":"${'x'.repeat(5_000_000)}",}`)
    expect(() => parseJsonBody(large)).toThrow('unexpected "}"')
  })

  it('bytes that are no UTF-8 are refused', async () => {
    const answer = await post(Buffer.from([0x22, 0xff, 0xfe, 0x22]))
    expect(answer.json().error.message).toBe('The body is not UTF-8.')
  })
})

describe('a hostile body', () => {
  it.each(['[', '{"a":'])('nested 10,000 levels with %j is refused at the level that is too deep', async (level) => {
    const answer = await post(level.repeat(10_000))
    expect(answer.statusCode).toBe(400)
    expect(answer.json().error.message).toContain('nested deeper than 256 levels')
  })

  it('nested 256 levels is taken', async () => {
    expect((await post('['.repeat(256) + ']'.repeat(256))).statusCode).toBe(200)
  })

  it('brackets inside of strings are no levels', async () => {
    const text = `${'['.repeat(1_000)}\\"${'{'.repeat(1_000)}\\\\`
    expect((await post(`{"a":"${text}"}`)).statusCode).toBe(200)
  })

  it.each([
    ['{"__proto__":{"admin":true}}', '__proto__'],
    ['{"a":[{"\\u005f_proto__":1}]}', '__proto__'],
    ['{"constructor":{"prototype":{}}}', 'constructor.prototype'],
  ])('%s is refused', async (body, key) => {
    const answer = await post(body)
    expect(answer.json().error).toMatchObject({ code: 'REQUEST_INVALID', details: { field: key } })
  })

  it('values that only speak of such keys are taken', async () => {
    const body = { text: '__proto__ and constructor.prototype', constructor: 'x' }
    expect((await post(JSON.stringify(body))).json()).toEqual({ got: body })
  })
})

describe('numbers', () => {
  it.each([
    '{"p":{"a":1.0,"b":[2.00,3]}}',
    '{"p":{"a":1e999,"b":-1E400}}',
    '{"p":{"seed":18446744073709551615}}',
    '{"p":{"a":1e3,"b":1.5E1,"c":-0.0}}',
    '{"p":{"a":0.7,"b":10,"c":"1.0","d":0.1234567890123456}}',
  ])('below the fields of a request reach a module as they were written: %s', (body) => {
    expect(JSON.stringify(parseJsonBody(Buffer.from(body)))).toBe(body)
  })

  it('of the request itself are numbers', () => {
    expect(parseJsonBody(Buffer.from('{"max":5.0,"p":{"a":[1.0]}}'))).toMatchObject({ max: 5 })
    expect(parseJsonBody(Buffer.from('2.0'))).toBe(2)
  })

  it('that are wrong are refused at their place', () => {
    expect(() => parseJsonBody(Buffer.from('{"a":1.0,"b":1.}'))).toThrow('line 1, column 14')
  })
})

describe('the type of a body', () => {
  it.each(['text/plain', 'application/x-www-form-urlencoded', 'nonsense', ''])(
    '%j is REQUEST_INVALID and says which is right',
    async (type) => {
      const answer = await post('{"a":1}', type === '' ? {} : { 'content-type': type })
      expect(answer.statusCode).toBe(400)
      expect(answer.json().error).toMatchObject({
        code: 'REQUEST_INVALID',
        details: { remedy: expect.stringContaining('application/json') },
      })
    },
  )

  it.each(['application/json; charset=utf-8', 'application/merge-patch+json', 'Application/JSON'])(
    '%s is read',
    async (type) => {
      expect((await post('{"a":1}', { 'content-type': type })).json()).toEqual({ got: { a: 1 } })
    },
  )

  it.each(['application/json', 'application/x-www-form-urlencoded'])(
    'no body at all under %s is none',
    async (type) => {
      expect((await post('', { 'content-type': type, 'content-length': '0' })).json()).toEqual({ got: 'nothing' })
    },
  )
})

describe('a body beyond the limit', () => {
  const tooLarge = (limitBytes: number) => ({
    error: {
      code: 'PAYLOAD_TOO_LARGE',
      message: `The body is larger than the limit of ${limitBytes} bytes.`,
      details: { limitBytes, setting: 'body_limit' },
    },
  })

  it('is PAYLOAD_TOO_LARGE with the limit and its setting', async () => {
    const answer = await post(JSON.stringify('x'.repeat(70_000)))
    expect(answer.statusCode).toBe(413)
    expect(answer.json()).toMatchObject(tooLarge(65_536))
  })

  it.each([{}, { 'content-length': '8000000' }])('reaches a client that is still sending (%o)', async (length) => {
    const { url } = await listeningServer()
    const body = Buffer.alloc(8_000_000, 0x20)
    const stream = 'content-length' in length ? body : new Blob([body]).stream()
    const init = { method: 'POST', headers: json, body: stream, duplex: 'half' } as RequestInit
    const answer = await fetch(`${url}/api/modules`, init)
    expect(answer.status).toBe(413)
    expect(await answer.json()).toMatchObject(tooLarge(65_536))
  })

  it('reaches one that reads nothing before it has sent everything', async () => {
    const { url } = await listeningServer()
    const script = `
import http.client, sys
c = http.client.HTTPConnection(sys.argv[1], timeout=30)
c.request('POST', '/api/modules', b' ' * 8_000_000, {'content-type': 'application/json', 'connection': 'close'})
print(c.getresponse().status)`
    const { stdout } = await promisify(execFile)('python3', ['-c', script, new URL(url).host])
    expect(stdout.trim()).toBe('413')
  })
})

describe('a body against its schema', () => {
  it.each([
    ['POST', '/api/modules', {}, '`source` in the body of the request is missing.', 'source'],
    ['POST', '/api/modules', { source: 1 }, '`source` in the body of the request must be string.', 'source'],
    [
      'POST',
      '/api/modules',
      { source: 'a', name: 'b' },
      '`name` in the body of the request is not known here.',
      'name',
    ],
    [
      'POST',
      '/api/modules/embeddings/rpc/load',
      { models: { m: 1 } },
      '`models.m` in the body of the request must be object.',
      'models.m',
    ],
    [
      'POST',
      '/api/modules/embeddings/rpc/offload',
      { models: 'm' },
      '`models` in the body of the request must be array.',
      'models',
    ],
    ['POST', '/api/models/minilm/load?wait=perhaps', {}, '`wait` in the query of the request must be boolean.', 'wait'],
    [
      'GET',
      '/api/modules/embeddings/logs?tail=-1',
      undefined,
      '`tail` in the query of the request must be >= 0.',
      'tail',
    ],
  ] as const)('%s %s with %j names the field', async (method, url, payload, message, field) => {
    const { app, services } = await testServer()
    const answer = await app.inject({ method, url, ...(payload === undefined ? {} : { payload }) })
    expect(answer.statusCode).toBe(400)
    expect(answer.json().error).toMatchObject({ code: 'REQUEST_INVALID', message, details: { field } })
    expect(services.asked).toEqual([])
  })
})
