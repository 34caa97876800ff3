import type { ServerResponse } from 'node:http'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ReplyStream } from '../../../orchestrator/http/reply-stream.ts'

const caller = { id: 'c', admin: true }

/** A stream into memory, and what was written to it. */
function written(sse: boolean) {
  const parts: Buffer[] = []
  const raw = {
    headersSent: false,
    destroyed: false,
    on() {},
    writeHead() {},
    end() {},
    write: (bytes: Buffer) => parts.push(Buffer.from(bytes)) > 0,
  }
  const stream = new ReplyStream(raw as unknown as ServerResponse, {
    requestId: 'r',
    caller,
    sse,
    trailers: true,
    onDrain() {},
  })
  return { stream, text: () => Buffer.concat(parts).toString('utf8') }
}

/** Server-sent events as a browser reads them (HTML, "Interpreting an event stream"): the data of each event. */
function readEvents(text: string): string[] {
  return text
    .split('\n\n')
    .slice(0, -1)
    .map((event) =>
      event
        .split('\n')
        .map((line) => (line.startsWith('data: ') ? line.slice('data: '.length) : `not a data line: ${line}`))
        .join('\n'),
    )
}

const frames = fc.array(
  fc.string({ unit: 'binary', maxLength: 40 }).map((text) => JSON.stringify({ chunk: { response: { text } } })),
  { maxLength: 6 },
)
const cuts = fc.array(fc.nat(400), { maxLength: 20 })

function pieces(text: string, places: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text)
  const sorted = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
  return sorted.slice(1).map((place, index) => bytes.subarray(sorted[index], place))
}

describe('the events of a stream', () => {
  it('are its frames, one each, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(frames, cuts, (all, places) => {
        const { stream, text } = written(true)
        for (const piece of pieces(all.map((frame) => `${frame}\n`).join(''), places)) stream.data(piece)
        expect(readEvents(text())).toEqual(all)
      }),
      { seed: 3, numRuns: 1_000 },
    )
  })

  it('end with a whole error frame wherever the stream breaks off', () => {
    fc.assert(
      fc.property(fc.boolean(), frames, cuts, fc.nat(400), (sse, all, places, end) => {
        const whole = all.map((frame) => `${frame}\n`).join('')
        const { stream, text } = written(sse)
        const sent = Buffer.from(whole)
          .subarray(0, end % (Buffer.byteLength(whole) + 1))
          .toString('latin1')
        for (const piece of pieces(Buffer.from(sent, 'latin1').toString('utf8'), places)) stream.data(piece)
        stream.fail({ toBody: () => ({ code: 'STREAM_INTERRUPTED' }) } as never)
        const lines = sse ? readEvents(text()) : text().split('\n').slice(0, -1)
        expect(lines.at(-1)).toBe('{"error":{"code":"STREAM_INTERRUPTED"}}')
        const complete = sent.split('\n').length - 1
        expect(lines.slice(0, complete)).toEqual(all.slice(0, complete))
      }),
      { seed: 4, numRuns: 1_000 },
    )
  })
})
