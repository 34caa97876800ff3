import { describe, expect, it } from 'vitest'
import { PlainReader } from '../../../module-runner/plain-http/request.ts'

const head = (lines: readonly string[], line = 'POST /api/models/m/infer HTTP/1.1') =>
  [line, ...lines, '', ''].join('\r\n')
const request = (extra: readonly string[] = [], body = '{}') =>
  head(['Host: berth', 'Content-Type: application/json', `Content-Length: ${Buffer.byteLength(body)}`, ...extra]) + body
const read = (text: string) => new PlainReader().read(Buffer.from(text))

describe('a plain request', () => {
  it('is a POST with a body of known length', () => {
    expect(read(request(['X-Request-Id:  a b\t'], '{"a":"é"}'))).toEqual({
      path: '/api/models/m/infer',
      headers: { host: 'berth', 'content-type': 'application/json', 'content-length': '10', 'x-request-id': 'a b' },
      body: Buffer.from('{"a":"é"}'),
    })
  })

  it('may come in parts', () => {
    const reader = new PlainReader()
    const bytes = Buffer.from(request([], '{"a":1}'))
    for (let end = 1; end < bytes.length; end += 1) expect(reader.read(bytes.subarray(0, end))).toBe('more')
    expect(reader.read(bytes)).toMatchObject({ body: Buffer.from('{"a":1}') })
  })

  it('is told from the next one, whose head differs in a digit', () => {
    const reader = new PlainReader()
    for (const body of ['{"a":1}', '{"b":2}', '{"a":10}', '{}'])
      expect(reader.read(Buffer.from(request([], body)))).toMatchObject({ body: Buffer.from(body) })
  })
})

describe('not plain, and left to node:http', () => {
  it.each([
    ['another method', 'GET / HTTP/1.1\r\nhost: a\r\n\r\n'],
    ['HTTP/1.0', head(['host: a', 'content-length: 0'], 'POST / HTTP/1.0')],
    ['a query', head(['host: a', 'content-length: 0'], 'POST /a?b HTTP/1.1')],
    ['an escape in the path', head(['host: a', 'content-length: 0'], 'POST /%61 HTTP/1.1')],
    ['an absolute URL', head(['host: a', 'content-length: 0'], 'POST http://a/ HTTP/1.1')],
    ['no host', head(['content-length: 0'])],
    ['no length', head(['host: a'])],
    ['two lengths', request(['Content-Length: 2'])],
    ['two equal headers of any name', request(['X-A: 1', 'x-a: 1'])],
    ['a length that is no number', head(['host: a', 'content-length: 1, 1'])],
    ['a signed length', head(['host: a', 'content-length: +1'])],
    ['a chunked body', head(['host: a', 'transfer-encoding: chunked'])],
    ['a chunked body with a length', request(['Transfer-Encoding: chunked'])],
    ['a body that waits for 100', request(['Expect: 100-continue'])],
    ['an upgrade', request(['Upgrade: h2c', 'Connection: upgrade'])],
    ['the last request of its connection', request(['Connection: close'])],
    ['a space before the colon', request(['X-A : 1'])],
    ['a folded line', request(['X-A: 1\r\n 2'])],
    ['a bare line feed', request(['X-A: 1\nX-B: 2'])],
    ['a bare carriage return', request(['X-A: 1\rX-B: 2'])],
    ['a control character', request(['X-A: \u0000'])],
    ['a header that is not ASCII', request(['X-A: é'])],
    ['a header with the name of a property', request(['__proto__: 1'])],
    ['a request and the beginning of another', `${request()}POST`],
    ['a long head', `POST /${'a'.repeat(9_000)}`],
    ['a long head that has come whole', request([`X-A: ${'a'.repeat(9_000)}`])],
    ['a long body', head(['host: a', 'content-length: 10000000'])],
  ])('%s', (_what, text) => expect(read(text)).toBe('other'))
})
