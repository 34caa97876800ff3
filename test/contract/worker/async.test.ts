import { describe, expect, it } from 'vitest'
import { eventually, extraOf, textOf, workers } from './support.ts'

const start = workers()

describe('async modules', () => {
  it('load, stream and offload, all on one event loop', async () => {
    const worker = await start({ module: 'asynchronous' })
    expect(await worker.load('{"m":{}}')).toMatchObject({ ok: { loaded: ['m'] } })
    const { chunks, end } = await worker.infer('m', { do: 'generator' })
    expect(textOf(chunks)).toBe('012')
    expect(extraOf(chunks)).toEqual({ same_loop: true })
    expect(end).toEqual({ done: true })
    expect(await worker.offload(['m'])).toMatchObject({ ok: { offloaded: ['m'] } })
    await eventually(() => expect(worker.printed).toContain("offloaded ['m']"))
  })

  it('may return a generator, or nothing, from a coroutine', async () => {
    const worker = await start({ module: 'asynchronous' })
    expect(textOf((await worker.infer('m', { do: 'returns_generator' })).chunks)).toBe('from a coroutine')
    expect(await worker.infer('m', { do: 'returns_nothing' })).toEqual({ chunks: [], end: { done: true } })
  })

  it('fail with message and traceback, sys.exit included, and the loop goes on', async () => {
    const worker = await start({ module: 'asynchronous' })
    await worker.load('{"m":{}}')
    const failed = (await worker.infer('m', { do: 'fails' })).end.error
    expect(failed?.message).toContain('ValueError: async reason')
    expect(failed?.details?.traceback).toContain('raise ValueError("async reason")')
    expect((await worker.infer('m', { do: 'exits' })).end.error?.message).toContain('sys.exit(1)')
    expect(textOf((await worker.infer('m', { do: 'generator' })).chunks)).toBe('012')
  })
})
