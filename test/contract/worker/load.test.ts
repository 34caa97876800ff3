import { describe, expect, it } from 'vitest'
import { eventually, extraOf, workers } from './support.ts'
import type { Wire } from './worker-process.ts'

const start = workers()

describe('load and offload', () => {
  it('gives load the very objects of ServerConfiguration, where modules keep live things', async () => {
    const worker = await start({ module: 'loads', models: '{"m":{"steps":20,"scale":7.0}}' })
    expect(await worker.load('{"m":{"steps":20,"scale":7.0}}')).toMatchObject({ ok: { loaded: ['m'] } })
    expect(extraOf((await worker.infer('m')).chunks)).toEqual({
      same: true,
      live: 'object',
      loads: 2,
      configuration: { steps: 20, scale: 7 },
      types: { steps: 'int', scale: 'float' },
    })
  })

  it('puts the configuration of a later load into the same object, without the keys that are gone', async () => {
    const worker = await start({ module: 'loads', models: '{"m":{"a":1,"b":2,"gone":5}}' })
    await worker.load('{"m":{"a":1,"b":2,"gone":5}}')
    await worker.load('{"m":{"a":1,"b":3.0,"c":4}}')
    const extra = extraOf((await worker.infer('m')).chunks)
    expect(extra).toMatchObject({ same: true, loads: 3 })
    expect(extra.configuration).toEqual({ a: 1, b: 3, c: 4 })
    expect(extra.types).toEqual({ a: 'int', b: 'float', c: 'int' })
  })

  it('loads a model that no configuration names', async () => {
    const worker = await start({ module: 'loads', models: '{}' })
    expect((await worker.infer('new')).end.error?.code).toBe('MODEL_NOT_FOUND')
    await worker.load('{"new":{"x":1}}')
    expect(extraOf((await worker.infer('new')).chunks)).toMatchObject({ same: true, configuration: { x: 1 } })
  })

  it('lets a module load again inside an inference', async () => {
    const worker = await start({ module: 'loads' })
    await worker.load('{"m":{}}')
    expect((await worker.infer('m')).end).toEqual({ done: true })
    expect((await worker.infer('m')).end).toEqual({ done: true })
  })

  it.each([
    ['fail', 'LOAD_FAILED', 'ValueError: weights are broken'],
    ['exit', 'LOAD_FAILED', 'sys.exit(4)'],
    ['memory', 'OUT_OF_MEMORY', 'MemoryError'],
  ])('answers a load that ends by %s with a clear error, and goes on', async (how, code, message) => {
    const worker = await start({ module: 'loads', models: '{}' })
    const { error } = (await worker.load(`{"bad":{"do":"${how}"}}`)) as { error: Wire }
    expect(error.code).toBe(code)
    expect(error.message).toContain('module loads: loading bad failed')
    expect(error.message).toContain(message)
    expect(error.details?.traceback).toContain('SERVICE_LOAD_MODELS')
    expect(await worker.load('{"good":{}}')).toMatchObject({ ok: { loaded: ['good'] } })
    expect(await worker.offload(['bad', 'good'])).toMatchObject({ ok: { offloaded: ['good'] } })
  })

  it('passes only loaded names on to the module, each once, in the main thread', async () => {
    const worker = await start({ module: 'loads', models: '{}' })
    await worker.load('{"a":{},"b":{}}')
    expect(await worker.offload(['a', 'never', 'a'])).toMatchObject({ ok: { offloaded: ['a'] } })
    expect(await worker.offload(['a', 'never'])).toMatchObject({ ok: { offloaded: [] } })
    expect(await worker.quit()).toEqual({ code: 0, signal: null })
    await eventually(() => expect(worker.printed).toBe("offload ['a'] True\noffload ['b'] True\n"))
  })

  it('answers a failing offload, after which the model counts as gone', async () => {
    const worker = await start({ module: 'loads', models: '{}' })
    await worker.load('{"a":{"do":"fail_offload"}}')
    const { error } = (await worker.offload(['a'])) as { error: Wire }
    expect(error.message).toContain('RuntimeError: stuck')
    expect(await worker.offload(['a'])).toMatchObject({ ok: { offloaded: [] } })
  })

  it('stays reachable during a load that never returns: inferences of other models go on', async () => {
    const worker = await start({ module: 'loads', models: '{}' })
    await worker.load('{"ready":{}}')
    void worker.load('{"slow":{"do":"hang"}}')
    await eventually(() => expect(worker.printed).toContain('hanging'))
    expect((await worker.infer('ready')).end).toEqual({ done: true })
  })

  it('answers a load that is nested too deeply', async () => {
    const worker = await start({ module: 'loads', models: '{}' })
    const deep = '['.repeat(200_000) + ']'.repeat(200_000)
    expect(((await worker.load(`{"m":{"x":${deep}}}`)) as { error: Wire }).error.code).toBe('REQUEST_INVALID')
    expect(await worker.load('{"m":{}}')).toMatchObject({ ok: { loaded: ['m'] } })
  })
})
