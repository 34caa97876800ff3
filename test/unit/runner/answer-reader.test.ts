import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { AnswerReader } from '../../../orchestrator/runner/answer-reader.ts'

/** What a reader makes of an answer that comes in these pieces. */
function read(text: string, cuts: readonly number[] = [], ends = false) {
  const bytes = Buffer.from(text, 'latin1')
  const reader = new AnswerReader()
  const parts: Buffer[] = []
  let from = 0
  for (const cut of [...cuts, bytes.length]) {
    const body = reader.push(Buffer.from(bytes.subarray(from, cut)))
    if (body !== undefined) parts.push(body)
    from = cut
  }
  if (ends) reader.end()
  const { status, over, reusableMs } = reader
  return { status, over, reusableMs, body: Buffer.concat(parts).toString('latin1') }
}

const lines = (...all: string[]) => all.map((line) => `${line}\r\n`).join('')
const chunked = lines('HTTP/1.1 200 OK', 'Transfer-Encoding: chunked', 'Keep-Alive: timeout=600', '')

describe('an answer', () => {
  const answers = {
    'with a length': [`${lines('HTTP/1.1 200 OK', 'Content-Length: 5', '')}hello`, 'hello', 4_000],
    'of nothing': [lines('HTTP/1.1 200 OK', 'content-length: 0', ''), '', 4_000],
    'in chunks': [
      `${chunked}5\r\nhello\r\nc;name=value\r\n to\r\n you \r\n\r\n0\r\n\r\n`,
      'hello to\r\n you \r\n',
      60_000,
    ],
    'in chunks with a trailer': [`${chunked}1\r\nx\r\n000\r\nexpires: never\r\nanother: 1\r\n\r\n`, 'x', 60_000],
    'after a preliminary one': [
      `${lines('HTTP/1.1 103 Early Hints', 'link: </a>', '')}${lines('HTTP/1.1 200 OK', 'content-length: 2', '')}ok`,
      'ok',
      4_000,
    ],
    'on a connection that closes': [
      `${lines('HTTP/1.1 200 OK', 'connection: close', 'content-length: 2', '')}ok`,
      'ok',
      0,
    ],
    'of an older server': [`${lines('HTTP/1.0 200 OK', 'content-length: 2', '')}ok`, 'ok', 0],
    'of an older server that keeps its connection': [
      `${lines('HTTP/1.0 200 OK', 'connection: keep-alive', 'keep-alive: timeout=3', 'content-length: 2', '')}ok`,
      'ok',
      2_000,
    ],
  } as const

  it.each(Object.entries(answers))('%s is read, wherever it is cut', (_name, [text, body, reusableMs]) => {
    expect(read(text)).toEqual({ status: 200, over: true, reusableMs, body })
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 8 }), (cuts) => {
        const sorted = cuts.sort((a, b) => a - b)
        expect(read(text, sorted)).toEqual({ status: 200, over: true, reusableMs, body })
      }),
    )
    const bytewise = Array.from({ length: text.length }, (_, index) => index)
    expect(read(text, bytewise).body).toBe(body)
  })

  it('without a length ends with its connection', () => {
    const text = `${lines('HTTP/1.1 200 OK', '')}some`
    expect(read(text)).toMatchObject({ over: false, body: 'some' })
    expect(read(text, [], true)).toMatchObject({ over: true, body: 'some', reusableMs: 0 })
  })

  it('whose connection ends too soon is not over', () => {
    expect(read(`${lines('HTTP/1.1 200 OK', 'content-length: 5', '')}hell`, [], true).over).toBe(false)
    expect(read(`${chunked}5\r\nhello\r\n`, [], true).over).toBe(false)
    expect(read('HTTP/1.1 200 OK\r\n', [], true)).toMatchObject({ over: false, status: 0 })
  })

  it('that is followed by more than was asked for gives its connection up', () => {
    const text = `${lines('HTTP/1.1 200 OK', 'content-length: 2', '')}ok`
    expect(read(`${text}HTTP/1.1 200 OK`)).toMatchObject({ over: true, body: 'ok', reusableMs: 0 })
  })

  it('keeps nothing of the buffer it was read into', () => {
    const reader = new AnswerReader()
    const buffer = Buffer.from(`${lines('HTTP/1.1 200 OK', 'content-length: 4', '')}abcd`)
    const head = Buffer.from(buffer.subarray(0, 20))
    reader.push(head)
    head.fill(0)
    const rest = buffer.subarray(20)
    const body = reader.push(rest)
    rest.fill(0)
    expect(body?.toString()).toBe('abcd')
  })

  it.each([
    ['no HTTP', 'SSH-2.0-OpenSSH\r\n\r\n'],
    ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
    ['a length that is none', lines('HTTP/1.1 200 OK', 'content-length: -1', '')],
    ['two lengths', lines('HTTP/1.1 200 OK', 'content-length: 1', 'content-length: 2', '')],
    ['a chunk without a size', `${chunked}\r\nhello`],
    ['a size that is none', `${chunked}xyz\r\nhello`],
    ['a size beyond all numbers', `${chunked}ffffffffffffffff\r\n`],
    ['a chunk longer than its size', `${chunked}1\r\nhello\r\n`],
    ['a head without end', `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(70_000)}`],
    ['a trailer without end', `${chunked}0\r\nx: ${'y'.repeat(10_000)}`],
  ])('with %s is refused', (_name, text) => {
    expect(() => read(text)).toThrow(/its answer/)
  })
})
