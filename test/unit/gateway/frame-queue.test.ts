import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { CallResult } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { collectFrames } from '../../../orchestrator/gateway/frame-queue.ts'
import type { Inference } from '../../../orchestrator/inference/dispatcher.ts'
import type { InferenceSink } from '../../../orchestrator/inference/types.ts'
import { chunkLine, doneLine } from '../../support/fake-lease.ts'

/** A queue whose feeding end is in the test's hand. */
function createQueue(signal: AbortSignal = new AbortController().signal, longest?: number) {
  let fed: InferenceSink | undefined
  const counts = { resumed: 0, cancelled: 0 }
  const inference = {
    resume: () => {
      counts.resumed += 1
    },
    cancel: () => {
      counts.cancelled += 1
    },
  } as unknown as Inference
  const frames = collectFrames(
    signal,
    (sink) => {
      fed = sink
      return inference
    },
    longest,
  )
  const sink = () => {
    if (!fed) throw new Error('Nobody reads yet')
    return fed
  }
  return { counts, frames, sink }
}

async function collected(frames: AsyncIterable<CallResult>): Promise<CallResult[]> {
  const all: CallResult[] = []
  for await (const frame of frames) all.push(frame)
  return all
}

describe('the frames of an inference, read one by one', () => {
  it('are all there, wherever their bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.string({ unit: 'binary', maxLength: 30 }), { maxLength: 6 }),
        fc.array(fc.nat(400), { maxLength: 12 }),
        async (texts, places) => {
          const bytes = Buffer.from(texts.map(chunkLine).join('') + doneLine)
          const cuts = [0, ...places.map((place) => place % (bytes.length + 1)), bytes.length].sort((a, b) => a - b)
          const { frames, sink } = createQueue()
          const all = collected(frames)
          for (const [index, cut] of cuts.entries()) {
            sink().data(bytes.subarray(cuts[index - 1] ?? 0, cut))
            if (index % 4 === 0) await setImmediate()
          }
          sink().end()
          expect(await all).toEqual([...texts.map((text) => JSON.parse(chunkLine(text))), { done: true }])
        },
      ),
      { seed: 5, numRuns: 60 },
    )
  }, 60_000)

  it('keep numbers as the called module wrote them', async () => {
    const { frames, sink } = createQueue()
    const all = collected(frames)
    await setImmediate()
    const line = '{"chunk":{"response":{"extra":{"f":1.0,"n":1180591620717411303424,"i":1}},"warnings":[],"errors":[]}}'
    sink().data(Buffer.from(`${line}\n`))
    sink().end()
    expect(JSON.stringify(await all)).toBe(`[${line}]`)
  })

  it('pause their sender while nobody reads, and let it go on when all are read', async () => {
    const { counts, frames, sink } = createQueue()
    const first = frames.next()
    await setImmediate()
    expect(sink().data(Buffer.from(chunkLine('a')))).toBe(true)
    await first
    const before = counts.resumed
    const line = Buffer.from(chunkLine('x'.repeat(100_000)))
    expect([sink().data(line), sink().data(line), sink().data(line)]).toEqual([true, true, false])
    await setImmediate()
    expect(counts.resumed).toBe(before)
    for (let count = 0; count < 3; count += 1) await frames.next()
    expect(counts.resumed).toBe(before)
    void frames.next()
    await setImmediate()
    expect(counts.resumed).toBe(before + 1)
    expect(sink().data(line)).toBe(true)
    await frames.return(undefined)
  })

  it('do not wait for a reader in the middle of a line that is longer than all that may wait', async () => {
    const { counts, frames, sink } = createQueue()
    const all = collected(frames)
    await setImmediate()
    const long = Buffer.from(chunkLine('x'.repeat(1_000_000)))
    expect(sink().data(long.subarray(0, 500_000))).toBe(false)
    await setImmediate()
    expect(counts.resumed).toBeGreaterThan(1)
    sink().data(long.subarray(500_000))
    sink().end()
    expect(await all).toEqual([JSON.parse(long.toString())])
  })

  it('end with the error after what came before it', async () => {
    const { frames, sink } = createQueue()
    const all = collected(frames)
    await setImmediate()
    sink().data(Buffer.from(chunkLine('a')))
    sink().fail(new BerthError('INFERENCE_FAILED', 'no', {}, { origin: 'module' }))
    expect(await all).toMatchObject([{ chunk: {} }, { error: { code: 'INFERENCE_FAILED', origin: 'module' } }])
  })

  it('end with an error, and are cancelled, where a line has no end', async () => {
    const { counts, frames, sink } = createQueue(undefined, 1_000)
    const all = collected(frames)
    await setImmediate()
    sink().data(Buffer.from(chunkLine('a')))
    for (let piece = 0; piece < 4; piece += 1) sink().data(Buffer.alloc(400, 'x'))
    expect(await all).toMatchObject([{ chunk: {} }, { error: { code: 'RUNNER_PROTOCOL' } }])
    expect(counts.cancelled).toBeGreaterThan(0)
  })

  it('are cancelled when their reader stops', async () => {
    const { counts, frames, sink } = createQueue()
    const first = frames.next()
    await setImmediate()
    sink().data(Buffer.from(chunkLine('a') + chunkLine('b')))
    await first
    await frames.return(undefined)
    expect(counts.cancelled).toBe(1)
  })

  it('are cancelled by the signal, before the first as well', async () => {
    const abort = new AbortController()
    const waiting = createQueue(abort.signal)
    const all = collected(waiting.frames)
    await setImmediate()
    abort.abort()
    expect(await all).toEqual([])
    expect(waiting.counts.cancelled).toBeGreaterThan(0)
    const late = createQueue(AbortSignal.abort())
    expect(await collected(late.frames)).toEqual([])
    expect(late.counts.cancelled).toBeGreaterThan(0)
  })

  it('that can not be read are an error, and cancelled', async () => {
    const { counts, frames, sink } = createQueue()
    const all = collected(frames)
    await setImmediate()
    sink().data(Buffer.from('{{{\n'))
    await expect(all).rejects.toThrow(SyntaxError)
    expect(counts.cancelled).toBe(1)
  })
})
