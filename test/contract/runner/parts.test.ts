import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseExact, writeExact } from '../../../module-runner/server/exact-json.ts'
import { LineReader } from '../../../module-runner/server/line-reader.ts'
import { ModelGate, modelOf } from '../../../module-runner/server/model-gate.ts'
import { deepestNesting, NestingGuard } from '../../../module-runner/server/nesting.ts'
import { AttachmentSplicer } from '../../../module-runner/server/worker/attachments.ts'
import { FrameReader, jsonFrame } from '../../../module-runner/server/worker/frames.ts'

/** What the runner reads comes in pieces of any size: where they are cut must not matter. */
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 8 })

function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const parts: Buffer[] = []
  let at = 0
  for (let turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1
    parts.push(bytes.subarray(at, at + size))
    at += size
  }
  return parts
}

const word = (value: number) => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

describe('attachments', () => {
  it('are put into their places as base64, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 4 }),
        fc.string(),
        cuts,
        (files, text, sizes) => {
          const place = (index: number) => `@@berth-att:abc:${index}@@`
          const line = Buffer.from(`${JSON.stringify({ text, files: files.map((_, index) => place(index)) })}\n`)
          const payload = Buffer.concat([
            word(line.length),
            line,
            ...files.flatMap((file) => [word(file.length), file]),
          ])
          const following = Buffer.from('the next frame')
          const splicer = new AttachmentSplicer(payload.length, 'abc')
          let out = ''
          let left = 0
          const sink = {
            write: (bytes: Buffer) => {
              out += bytes.toString('latin1')
            },
            writeLatin1: (part: string) => {
              out += part
            },
          }
          for (const piece of pieces(Buffer.concat([payload, following]), sizes)) {
            left += piece.length - (splicer.finished ? 0 : splicer.consume(piece, 0, sink))
          }
          expect(left).toBe(following.length)
          expect(JSON.parse(Buffer.from(out, 'latin1').toString('utf8'))).toEqual({
            text,
            files: files.map((file) => Buffer.from(file).toString('base64')),
          })
        },
      ),
    )
  })

  it('that are longer than their frame, or have no place, are an error', () => {
    const line = Buffer.from('{}\n')
    const bad = Buffer.concat([word(line.length), line, word(1), Buffer.from('x')])
    const sink = { write: () => {}, writeLatin1: () => {} }
    expect(() => new AttachmentSplicer(bad.length, 'abc').consume(bad, 0, sink)).toThrow('place of attachment 0')
    expect(() => new AttachmentSplicer(8, 'abc').consume(Buffer.concat([word(100), line, line]), 0, sink)).toThrow(
      'longer',
    )
  })
})

describe('frames', () => {
  it('are the same, however they are cut', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 255 }), fc.string()), { maxLength: 6 }),
        cuts,
        (sent, sizes) => {
          const got: [number, string][] = []
          const reader = new FrameReader(1_000, (type, payload) => got.push([type, payload.toString()]))
          const bytes = Buffer.concat(sent.map(([type, text]) => jsonFrame(type, text)))
          for (const piece of pieces(bytes, sizes)) reader.push(piece)
          expect(got).toEqual(sent.map(([type, text]) => [type, Buffer.from(text).toString()]))
        },
      ),
    )
  })

  it('beyond their limit are refused before they have come', () => {
    const reader = new FrameReader(100, () => {})
    expect(() => reader.push(Buffer.concat([word(102), Buffer.from('C')]))).toThrow('too long')
  })
})

describe('nesting', () => {
  const depthOf = (value: unknown): number =>
    typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

  function passes(text: string, sizes: readonly number[]): boolean {
    const guard = new NestingGuard()
    try {
      for (const piece of pieces(Buffer.from(text), sizes)) guard.push(piece)
      return true
    } catch {
      return false
    }
  }

  it('of any ordinary JSON is let through, brackets and quotes in strings included', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string(), cuts, (value, text, sizes) => {
        const whole = JSON.stringify([value, text, '[[[{"\\', value])
        expect(depthOf(JSON.parse(whole))).toBeLessThan(deepestNesting)
        expect(passes(whole, sizes)).toBe(true)
      }),
    )
  })

  it('is counted after strings that end in escapes', () => {
    const deep = (levels: number) => `{"a\\\\":"\\"","b":${'['.repeat(levels)}${']'.repeat(levels)}}`
    expect(passes(deep(deepestNesting - 1), [1])).toBe(true)
    expect(passes(deep(deepestNesting), [1])).toBe(false)
    expect(passes(deep(deepestNesting), [7, 3])).toBe(false)
  })
})

describe('exact JSON', () => {
  it('comes out as it went in', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(JSON.parse(writeExact(parseExact(text)))).toEqual(JSON.parse(text))
      }),
    )
    const numbers = '[1.0,-0.0,1e400,123456789012345678901234567890,0.1,1.50,-7,{"__proto__":2.0}]'
    expect(writeExact(parseExact(numbers))).toBe(numbers)
  })
})

describe('lines', () => {
  it('are the same, however they are cut', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme' })), cuts, (texts, sizes) => {
        const sent = texts.map((text) => text.replaceAll(/[\r\n]/g, '')).filter((text) => text.trim() !== '')
        const got: string[] = []
        const reader = new LineReader((line) => got.push(line))
        for (const piece of pieces(Buffer.from(sent.join('\r\n')), sizes)) reader.push(piece)
        reader.end()
        expect(got).toEqual(sent)
      }),
    )
  })
})

describe('the model of a request', () => {
  it('is found wherever it stands', () => {
    fc.assert(
      fc.property(fc.string(), fc.boolean(), cuts, (model, first, sizes) => {
        const text = JSON.stringify(first ? { model, config: {} } : { config: {}, model })
        expect(modelOf(pieces(Buffer.from(text), sizes))).toBe(JSON.parse(text).model)
      }),
    )
  })
})

describe('the gate of a model', () => {
  it('lets in what the orchestrator sends, and holds back only what would overlap with a cancelled one', async () => {
    const gate = new ModelGate(() => 1)
    expect([gate.enter('a'), gate.enter('a'), gate.inflight]).toEqual([true, true, 2])
    gate.cancelled('a')
    expect(gate.enter('a')).toBe(false)
    expect(gate.enter('b')).toBe(true)
    const later = gate.enterLater('a', new AbortController().signal)
    gate.leave('a', false)
    expect(gate.enter('a')).toBe(false)
    gate.leave('a', true)
    await later
    expect(gate.inflight).toBe(2)
  })

  it('forgets who leaves while waiting', async () => {
    const gate = new ModelGate(() => 1)
    gate.enter('a')
    gate.cancelled('a')
    const controller = new AbortController()
    const waiting = [gate.enterLater('a', controller.signal), gate.settled(['a'], controller.signal)]
    controller.abort()
    for (const each of await Promise.allSettled(waiting)) expect(each.status).toBe('rejected')
    gate.leave('a', true)
    await gate.settled(['a'], AbortSignal.timeout(1_000))
    expect(gate.inflight).toBe(0)
  })
})
