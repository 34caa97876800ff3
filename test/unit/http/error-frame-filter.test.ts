import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ErrorFrameFilter } from '../../../orchestrator/http/error-frame-filter.ts'
import { chunkLine, doneLine } from '../../support/fake-lease.ts'

const errorLine = (details: unknown) =>
  `${JSON.stringify({ error: { code: 'INFERENCE_FAILED', message: 'no', retryable: false, origin: 'module', details } })}\n`

function filtered(text: string, places: readonly number[] = []): string {
  const filter = new ErrorFrameFilter()
  const bytes = Buffer.from(text)
  const cuts = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  const out = cuts.slice(1).map((end, index) => filter.push(bytes.subarray(cuts[index], end)))
  return Buffer.concat([...out, filter.end()]).toString('utf8')
}

const chunks = fc.array(
  fc
    .oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.constant('{"error"'), fc.constant('\n{"error"'))
    .map(chunkLine),
  { maxLength: 6 },
)
const cuts = fc.array(fc.nat(600), { maxLength: 20 })

describe('a stream for a caller who is no admin', () => {
  it('passes byte by byte as it was, wherever it is cut', () => {
    fc.assert(
      fc.property(chunks, cuts, (frames, places) => {
        const text = frames.join('') + doneLine
        expect(filtered(text, places)).toBe(text)
      }),
    )
  })

  it('loses the traceback of its error frame and nothing else, wherever it is cut', () => {
    fc.assert(
      fc.property(chunks, cuts, (frames, places) => {
        const text = frames.join('') + errorLine({ module: 'm', traceback: 'secret', lines: ['secret'] })
        expect(filtered(text, places)).toBe(frames.join('') + errorLine({ module: 'm' }))
      }),
    )
  })

  it('gives a chunk at once, and holds back only what may be the beginning of an error', () => {
    const filter = new ErrorFrameFilter()
    expect(filter.push(Buffer.from(chunkLine('one'))).toString()).toBe(chunkLine('one'))
    expect(filter.push(Buffer.from('{"chu')).toString()).toBe('{"chu')
    expect(filter.push(Buffer.from('nk":{"x":"\n')).toString()).toBe('nk":{"x":"\n')
    expect(filter.push(Buffer.from('{"err')).toString()).toBe('')
    expect(filter.push(Buffer.from('and":1}\n')).toString()).toBe('{"errand":1}\n')
  })

  it('keeps no error frame without bound, and says so', () => {
    const filter = new ErrorFrameFilter()
    filter.push(Buffer.from('{"error":{"message":"'))
    for (let count = 0; count < 5; count += 1) expect(filter.push(Buffer.alloc(1024 * 1024, 'x'))).toHaveLength(0)
    filter.push(Buffer.from('"}}\n'))
    expect(JSON.parse(filter.end().toString())).toMatchObject({ error: { code: 'INFERENCE_FAILED', origin: 'module' } })
  })

  it('shows nothing of an error frame that is no JSON', () => {
    expect(filtered('{"error":{"details":{"traceback":secret}}\n')).not.toContain('secret')
  })
})
