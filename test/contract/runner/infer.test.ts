import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it, vi } from 'vitest'
import { framesOf, inference, patience, residentBytes, start, startLoaded, textOf } from './support.ts'

const written = (path: string) => vi.waitFor(() => expect(existsSync(path)).toBe(true), patience)

describe('a stream', () => {
  it('hands every chunk on as it comes, and ends with its terminal frame', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const then = join(runner.data, 'then')
    const response = await runner.open('POST', '/infer', inference({ chunks: 2, then })).response
    expect(response.headers['content-type']).toBe('application/x-ndjson')
    const first = await new Promise((resolve) => response.once('data', resolve))
    expect(framesOf(String(first))).toEqual([{ chunk: { response: { text: '0 ' }, warnings: [], errors: [] } }])
    expect((await runner.health()).inflight).toBe(1)
    writeFileSync(then, '')
    const frames = framesOf(await textOf(response))
    expect(frames.map((frame) => frame.chunk?.response.text ?? frame)).toEqual(['1 ', { done: true }])
    await runner.until(({ inflight }) => inflight === 0)
  })

  it('is empty and successful, when the module yields nothing', async () => {
    const runner = await startLoaded({ module: 'basic' })
    expect((await runner.infer('m')).frames).toEqual([{ done: true }])
  })

  it('passes 10 MB in one text', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const { frames } = await runner.infer('m', { chunks: 1, size: 10_000_000 })
    expect(frames[0].chunk.response.text).toBe(`0 ${'x'.repeat(10_000_000)}`)
    expect(frames[1]).toEqual({ done: true })
  })

  it('carries files as base64, whatever their length', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const sizes = [0, 1, 2, 3, 255, 65_535, 65_536, 3_000_001]
    const { frames } = await runner.infer('m', { files: sizes, parameters: { conversation: [] } })
    expect(frames.at(-1)).toEqual({ done: true })
    const files = frames.slice(1, -1).map((frame) => frame.chunk.response.files[0].file)
    expect(files.map((file) => Buffer.from(file, 'base64').length)).toEqual(sizes)
    const last = Buffer.from(files.at(-1), 'base64')
    expect(last.subarray(0, 512).every((byte, at) => byte === at % 256)).toBe(true)
    expect(last.toString('base64')).toBe(files.at(-1))
  })

  it('carries files in the conversation of its terminal frame', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const { frames } = await runner.infer('m', { files: [1000, 70_000], conversation: [] })
    const { done, conversation } = frames.at(-1)
    expect(done).toBe(true)
    const [{ role, content }] = conversation
    expect(role).toBe('assistant')
    expect(content.map((item: { file: string }) => Buffer.from(item.file, 'base64').length)).toEqual([1000, 70_000])
  })

  it('does not mix with others at the same time', async () => {
    const runner = await startLoaded({ module: 'basic', models: { m: { max_simul_users: 20 } } })
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, number) => runner.infer('m', { chunks: 50, size: number * 500 })),
    )
    for (const [number, { frames }] of answers.entries()) {
      expect(frames).toHaveLength(51)
      for (const [index, frame] of frames.slice(0, 50).entries()) {
        expect(frame.chunk.response.text).toBe(`${index} ${'x'.repeat(number * 500)}`)
      }
    }
    expect((await runner.health()).inflight).toBe(0)
  })

  it('that its client reads slowly grows neither runner nor worker', async () => {
    const runner = await startLoaded({ module: 'basic' })
    await runner.infer('m', { chunks: 200, size: 100_000 })
    const pids = [runner.process.pid ?? 0, runner.workerPid()]
    const before = pids.map(residentBytes)
    const response = await runner.open('POST', '/infer', inference({ chunks: 1280, size: 100_000 })).response
    let bytes = 0
    let most = [0, 0]
    for await (const part of response) {
      bytes += part.length
      if (bytes % 50 === 0) await delay(1)
      most = pids.map((pid, at) => Math.max(most[at] ?? 0, residentBytes(pid)))
    }
    expect(bytes).toBeGreaterThan(128_000_000)
    for (const at of [0, 1]) expect((most[at] ?? 0) - (before[at] ?? 0)).toBeLessThan(32 * 1024 * 1024)
  })
})

describe('a failing inference', () => {
  it('has a true status before its first chunk', async () => {
    const runner = await startLoaded({ module: 'basic' })
    for (const parameters of [{ early: 'at once' }, { late: 'at once' }]) {
      const { status, json } = await runner.infer('m', parameters)
      expect(status).toBe(502)
      expect(json.error).toMatchObject({ code: 'INFERENCE_FAILED', origin: 'module', retryable: false })
      expect(json.error.message).toContain('at once')
      expect(json.error.details.traceback).toContain('ValueError')
    }
  })

  it('ends with an error frame after its first chunk', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const { status, frames } = await runner.infer('m', { chunks: 3, late: 'too late' })
    expect(status).toBe(200)
    expect(frames).toHaveLength(4)
    expect(frames[3].error).toMatchObject({ code: 'INFERENCE_FAILED' })
    expect(frames[3].error.message).toContain('too late')
  })

  it('leaves its connection to the worker usable', async () => {
    const runner = await startLoaded({ module: 'basic' })
    for (let turn = 0; turn < 5; turn += 1) {
      await runner.infer('m', { early: 'no' })
      await runner.infer('m', { chunks: 1, late: 'no' })
      expect((await runner.infer('m', { chunks: 1 })).frames).toHaveLength(2)
    }
  })
})

describe('a client that leaves', () => {
  it('closes the generator at its next yield', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const closed = join(runner.data, 'closed')
    const call = runner.open('POST', '/infer', inference({ chunks: 1_000_000, pause: 0.02, closed }))
    await call.response
    call.request.destroy()
    await written(closed)
    await runner.until(({ inflight }) => inflight === 0)
    expect((await runner.infer('m', { chunks: 1 })).frames).toHaveLength(2)
  })

  it('does so before the first chunk as well', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const [started, then, closed] = ['started', 'then', 'closed'].map((name) => join(runner.data, name))
    const call = runner.open('POST', '/infer', inference({ chunks: 2, size: 10, started, then, closed }))
    await written(started ?? '')
    call.request.destroy()
    await runner.health()
    writeFileSync(then ?? '', '')
    await written(closed ?? '')
    await runner.until(({ inflight }) => inflight === 0)
  })

  it('makes the next inference of a model wait until its own has really ended', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const [started, then, closed] = ['started', 'then', 'closed'].map((name) => join(runner.data, name))
    const call = runner.open('POST', '/infer', inference({ chunks: 2, started, then, closed }))
    await written(started ?? '')
    call.request.destroy()
    let answered = false
    const next = runner.infer('m', { chunks: 1 }).then((answer) => {
      answered = true
      return answer
    })
    // Another model does not wait.
    expect((await runner.infer('m2', { chunks: 1 })).status).toBe(404)
    expect(answered).toBe(false)
    expect(existsSync(closed ?? '')).toBe(false)
    writeFileSync(then ?? '', '')
    expect((await next).frames).toHaveLength(2)
    expect(existsSync(closed ?? '')).toBe(true)
  })

  it('does not end it, when the module wants it drained', async () => {
    const runner = await startLoaded({ module: 'basic', onDisconnect: 'drain' })
    const [then, closed] = ['then', 'closed'].map((name) => join(runner.data, name))
    const call = runner.open('POST', '/infer', inference({ chunks: 3, size: 2_000_000, then, closed }))
    await call.response // of which nothing is read: the module stands in its first yield
    call.request.destroy()
    expect((await runner.health()).inflight).toBe(1)
    writeFileSync(then ?? '', '')
    await written(closed ?? '')
    await runner.until(({ inflight }) => inflight === 0)
    expect((await runner.infer('m', { chunks: 1 })).frames).toHaveLength(2)
  })

  it('in great number leaves nothing behind', async () => {
    const runner = await startLoaded({ module: 'basic', models: { m: { max_simul_users: 100 } } })
    for (let turn = 0; turn < 5; turn += 1) {
      const calls = Array.from({ length: 40 }, () =>
        runner.open('POST', '/infer', inference({ chunks: 1_000_000, size: 5_000 })),
      )
      await Promise.all(calls.slice(0, 20).map(({ response }) => response))
      for (const { request } of calls) request.destroy()
    }
    await runner.until(({ inflight }) => inflight === 0)
    expect((await runner.infer('m', { chunks: 1 })).frames).toHaveLength(2)
  })
})

describe('many inferences', () => {
  it('beyond the slots of a runner are refused as busy', async () => {
    const runner = await start({ module: 'basic', models: { m: { max_simul_users: 1000 } } })
    await runner.load({ m: {} })
    const then = join(runner.data, 'then')
    const calls = Array.from({ length: 300 }, () => runner.infer('m', { chunks: 1, then }))
    const busy = await vi.waitFor(async () => {
      expect((await runner.health()).inflight).toBe(256)
      return true
    }, patience)
    expect(busy).toBe(true)
    writeFileSync(then, '')
    const answers = await Promise.all(calls)
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(256)
    const refused = answers.filter(({ status }) => status === 429)
    expect(refused).toHaveLength(44)
    expect(refused[0]?.json.error).toMatchObject({ code: 'MODULE_BUSY', retryable: true })
    expect((await runner.infer('m', { chunks: 1 })).frames).toHaveLength(2)
  })
})
