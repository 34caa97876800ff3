import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Ending, LastLine } from '../../../orchestrator/runner/last-line.ts'
import { LineSplitter } from '../../../orchestrator/runner/line-splitter.ts'

/** What a stream's end is, found by taking it apart. */
function parsedEnding(text: string): Ending {
  if (!text.endsWith('\n')) return { kind: 'open' }
  const line = text.split('\n').at(-2) ?? ''
  let frame: { done?: unknown; error?: { code?: unknown } } = {}
  try {
    frame = JSON.parse(line)
  } catch {
    return { kind: 'open' }
  }
  if (frame.done === true) return { kind: 'done' }
  return frame.error ? { kind: 'error', code: String(frame.error.code) } : { kind: 'open' }
}

const text = fc.oneof(
  fc.string({ maxLength: 200 }),
  fc.constantFrom('{"done":true}', '\n', '"error"', 'größe', '{"error":{"code":"X"}}'),
)
const code = fc.constantFrom('INFERENCE_FAILED', 'OUT_OF_MEMORY', 'WORKLOAD_EXITED')
const line = fc.oneof(
  {
    weight: 4,
    arbitrary: text.map(
      (said) => `${JSON.stringify({ chunk: { response: { text: said }, warnings: [], errors: [] } })}\n`,
    ),
  },
  { weight: 1, arbitrary: fc.constant('{"done":true}\n') },
  { weight: 1, arbitrary: text.map((said) => `${JSON.stringify({ done: true, conversation: [said] })}\n`) },
  {
    weight: 1,
    arbitrary: fc.tuple(code, text).map(([name, message]) => `${JSON.stringify({ error: { code: name, message } })}\n`),
  },
)

/** The bytes in pieces: cut anywhere, in the middle of a character too. */
function cut(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...new Set(cuts.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  const pieces: Buffer[] = []
  let from = 0
  for (const place of [...places, bytes.length]) {
    pieces.push(bytes.subarray(from, place))
    from = place
  }
  return pieces
}

const lines = fc.array(line, { maxLength: 8 })
const cuts = fc.array(fc.nat(4_000), { maxLength: 30 })

describe('how a stream ends', () => {
  it('is known without parsing it, wherever it is cut', () => {
    fc.assert(
      fc.property(lines, cuts, fc.nat(40), (all, places, missing) => {
        const whole = all.join('')
        const bytes = Buffer.from(whole.slice(0, Math.max(0, whole.length - (missing < 20 ? missing : 0))))
        const last = new LastLine()
        for (const piece of cut(bytes, places)) last.push(piece)
        expect(last.ending()).toEqual(parsedEnding(bytes.toString('utf8')))
        expect(last.begun).toBe(bytes.length > 0)
      }),
      { seed: 1, numRuns: 2_000 },
    )
  })

  it('does not hold on to a long last line', () => {
    const last = new LastLine()
    last.push(Buffer.from('{"done":true,"conversation":["'))
    for (let count = 0; count < 100; count += 1) last.push(Buffer.alloc(100_000, 97))
    last.push(Buffer.from('"]}\n'))
    expect(last.ending()).toEqual({ kind: 'done' })
  })
})

describe('lines', () => {
  it('are the same wherever their bytes are cut', () => {
    fc.assert(
      fc.property(lines, cuts, (all, places) => {
        const whole = `${all.join('')}rest`
        const splitter = new LineSplitter()
        const found = cut(Buffer.from(whole), places).flatMap((piece) =>
          splitter.push(piece).map((bytes) => bytes.toString('utf8')),
        )
        expect([...found, splitter.rest().toString('utf8')]).toEqual(whole.split('\n'))
        expect(splitter.rest().length).toBe(0)
      }),
      { seed: 2, numRuns: 1_000 },
    )
  })
})
