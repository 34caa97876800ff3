import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { inference, launch, patience, start, startLoaded } from './support.ts'

describe('health, load and offload', () => {
  it('answers before the module is imported, and tells each state', async () => {
    const runner = await start({ module: 'basic' })
    expect(await runner.health()).toEqual({ protocol: 1, state: 'idle', models: [], inflight: 0, workerRestarts: 0 })

    expect((await runner.load({ m: {}, n: {} })).json).toEqual({ loaded: ['m', 'n'] })
    expect(await runner.health()).toMatchObject({ state: 'ready', models: ['m', 'n'] })

    expect((await runner.send('POST', '/offload', { models: ['n', 'never-loaded'] })).json).toEqual({
      offloaded: ['n'],
    })
    expect((await runner.send('POST', '/offload', { models: ['m', 'n'] })).json).toEqual({ offloaded: ['m'] })
    expect(await runner.health()).toMatchObject({ state: 'idle', models: [] })
  })

  it('takes a load that comes before the import is done', async () => {
    const runner = await launch({ module: 'basic' })
    await vi.waitFor(() => runner.health(), patience)
    expect((await runner.load({ m: {} })).json).toEqual({ loaded: ['m'] })
  })

  it('reports no half-loaded model', async () => {
    const runner = await start({ module: 'basic' })
    const answer = await runner.load({ good: {}, bad: { fail: true } })
    expect(answer.status).toBe(502)
    expect(answer.json.error).toMatchObject({ code: 'LOAD_FAILED', origin: 'module', retryable: false })
    expect(answer.json.error.details.traceback).toContain('it does not want to')
    expect(await runner.health()).toMatchObject({ state: 'idle', models: [] })
  })

  it('answers health and the import error, when the module cannot be imported', async () => {
    const runner = await launch({ module: 'broken' })
    const { error } = await runner.until(({ state }) => state === 'failed')
    expect(error?.code).toBe('LOAD_FAILED')
    expect(error?.message).toContain('a_package_that_is_not_there')
    expect(error?.details?.traceback).toContain('service.py')
    expect((await runner.load({ m: {} })).json.error).toEqual(error)
    expect((await runner.infer('m')).json.error).toEqual(error)
    expect(await runner.health()).toMatchObject({ state: 'failed', workerRestarts: 0 })
  })

  it('says that there is no interpreter', async () => {
    const runner = await launch({ module: 'basic', python: '/nowhere/python3' })
    const { error } = await runner.until(({ state }) => state === 'failed')
    expect(error).toMatchObject({ code: 'LOAD_FAILED', details: { field: 'python' } })
    expect(error?.message).toContain('/nowhere/python3')
  })

  it('says that the environment is incomplete', async () => {
    const runner = await launch({ module: 'basic', environment: '/nowhere' })
    const { error } = await runner.until(({ state }) => state === 'failed')
    expect(error?.message).toContain('/nowhere/environment.json')
  })

  it('kills a load that its caller gives up, and replaces the worker', async () => {
    const runner = await start({ module: 'basic' })
    const worker = runner.workerPid()
    const call = runner.open('POST', '/load', { models: { m: { hang: '/nowhere' } } })
    await vi.waitFor(
      () => expect(runner.logs.some(({ message }) => message.includes('loading m'))).toBe(true),
      patience,
    )
    expect((await runner.health()).inflight).toBe(0)
    call.request.destroy()

    await runner.until(({ state, workerRestarts }) => state === 'idle' && workerRestarts === 1)
    expect(runner.workerPid()).not.toBe(worker)
    expect((await runner.load({ m: {} })).json).toEqual({ loaded: ['m'] })
  })

  it('does a load that waits behind one that is given up, in the next worker', async () => {
    const runner = await start({ module: 'basic' })
    const first = runner.open('POST', '/load', { models: { a: { hang: '/nowhere' } } })
    await vi.waitFor(
      () => expect(runner.logs.some(({ message }) => message.includes('loading a'))).toBe(true),
      patience,
    )
    const second = runner.send('POST', '/load', { models: { b: {} } })
    await runner.health()
    first.request.destroy()
    expect((await second).json).toEqual({ loaded: ['b'] })
    expect(await runner.health()).toMatchObject({ models: ['b'], workerRestarts: 1 })
  })

  it('does a load that waits behind another, and not one whose caller left', async () => {
    const runner = await start({ module: 'basic' })
    const gate = join(runner.data, 'gate')
    const first = runner.send('POST', '/load', { models: { a: { hang: gate } } })
    await vi.waitFor(
      () => expect(runner.logs.some(({ message }) => message.includes('loading a'))).toBe(true),
      patience,
    )
    const left = runner.open('POST', '/load', { models: { b: {} } })
    const third = runner.send('POST', '/load', { models: { c: {} } })
    await runner.health()
    left.request.destroy()
    await runner.health()
    writeFileSync(gate, '')
    expect((await first).json).toEqual({ loaded: ['a'] })
    expect((await third).json).toEqual({ loaded: ['c'] })
    expect(await runner.health()).toMatchObject({ models: ['a', 'c'], workerRestarts: 0 })
  })
})

describe('what a module is given', () => {
  it('has its default configuration under the one of the user, with floats as floats', async () => {
    const runner = await start({
      module: 'basic',
      configuration: { list: [3], nested: { change: 2 }, added: true },
    })
    const { frames } = await runner.infer('m', { configuration: true })
    expect(frames[0].chunk.response.extra.service).toBe(
      "{'whole': 1, 'point': 1.0, 'list': [3], 'nested': {'keep': True, 'change': 2}, 'big': 123456789012345678901234567890, 'added': True}",
    )
  })

  it('keeps the numbers of load and infer as they were written', async () => {
    const runner = await start({ module: 'basic' })
    await runner.send('POST', '/load', '{"models":{"m":{"point":2.0,"whole":2,"exponent":1e2,"big":9007199254740993}}}')
    const answer = await runner.send(
      'POST',
      '/infer',
      '{"model":"m","config":{},"parameters":{"configuration":true,"parameters":[1.0,1,-0.0,1.50]}}',
    )
    expect(answer.text).toContain("'point': 2.0, 'whole': 2, 'exponent': 100.0, 'big': 9007199254740993")
    expect(answer.text).toContain('[1.0, 1, -0.0, 1.5]')
  })
})

describe('requests', () => {
  it('needs the token for everything but health', async () => {
    const runner = await start({ module: 'basic', env: { BERTH_TOKEN: 'secret' } })
    expect((await runner.health()).state).toBe('idle')
    for (const authorization of [undefined, 'Bearer wrong', 'Bearer secre', 'secret']) {
      const headers = authorization === undefined ? {} : { authorization }
      for (const [method, path] of [
        ['POST', '/infer'],
        ['POST', '/load'],
        ['GET', '/describe'],
        ['GET', '/calls'],
      ] as const) {
        const answer = await runner.send(method, path, method === 'POST' ? inference() : undefined, headers)
        expect([answer.status, answer.json.error.code]).toEqual([401, 'UNAUTHORIZED'])
      }
    }
    expect((await runner.send('GET', '/describe', undefined, { authorization: 'Bearer secret' })).status).toBe(200)
  })

  it('tells an unknown path, a wrong method and a call that services do not have', async () => {
    const runner = await start({ module: 'basic' })
    const codes = async (method: string, path: string) => {
      const { status, json } = await runner.send(method, path, method === 'POST' ? {} : undefined)
      return [status, json.error.code]
    }
    expect(await codes('GET', '/nowhere')).toEqual([404, 'NOT_FOUND'])
    expect(await codes('GET', '/infer')).toEqual([405, 'METHOD_NOT_ALLOWED'])
    expect(await codes('POST', '/health')).toEqual([405, 'METHOD_NOT_ALLOWED'])
    expect(await codes('POST', '/call')).toEqual([501, 'ENGINE_UNSUPPORTED'])
    expect(await codes('POST', '/calls/unknown')).toEqual([410, 'CLIENT_CLOSED'])
    expect((await runner.send('GET', '/describe')).json).toEqual({ id: 'tested', format: 'service', models: ['m'] })
  })

  it('refuses what is no JSON, nested too deep, too large or of a wrong shape', async () => {
    const runner = await start({ module: 'basic', env: { BERTH_BODY_LIMIT: '100000' } })
    const codes = async (path: string, body: string) => {
      const { status, json } = await runner.send('POST', path, body)
      return [status, json.error.code]
    }
    const invalid = [400, 'REQUEST_INVALID']
    expect(await codes('/load', 'nonsense')).toEqual(invalid)
    expect(await codes('/load', '{"models":["m"]}')).toEqual(invalid)
    expect(await codes('/load', '{"models":{"m":1}}')).toEqual(invalid)
    expect(await codes('/offload', '{"models":{}}')).toEqual(invalid)
    expect(await codes('/infer', 'nonsense')).toEqual(invalid)
    expect(await codes('/infer', '{"model":"m"}')).toEqual(invalid)
    expect(await codes('/infer', '{"model":"m","config":{},"parameters":[]}')).toEqual(invalid)
    expect(await codes('/infer', `{"model":"m","config":{},"parameters":{"a":${'['.repeat(40_000)}`)).toEqual(invalid)
    expect(await codes('/load', `{"models":${'['.repeat(300)}`)).toEqual(invalid)
    expect(await codes('/infer', `{"model":"${'m'.repeat(200_000)}`)).toEqual([413, 'PAYLOAD_TOO_LARGE'])
    expect(await codes('/infer', JSON.stringify(inference({}, 'unknown')))).toEqual([404, 'MODEL_NOT_FOUND'])
    const strings = JSON.stringify(inference({ parameters: '[[{"'.repeat(500) }))
    expect((await runner.send('POST', '/infer', strings)).status).toBe(200)
  })

  it('exits with a clear message, when it is not told its module', async () => {
    const runner = await launch({ module: 'basic', env: { BERTH_MODULE: '{"id":1}' } })
    expect(await runner.exited).toBe(1)
    await vi.waitFor(
      () => expect(runner.logs.at(-1)?.message).toContain('BERTH_MODULE: missing or of a wrong kind: id,'),
      patience,
    )
  })
})

describe('the log', () => {
  it('carries what the module prints, line by line, cut where it is endless', async () => {
    const runner = await startLoaded({ module: 'chatty' })
    await vi.waitFor(() => expect(runner.logs.some(({ message }) => message === 'ünïcödé')).toBe(true), patience)
    const shown = runner.logs.map(({ level, source, message }) => `${level} ${source} ${message}`)
    expect(shown).toContain('warning module to standard error')
    expect(shown).toContain('info module 100%')
    const long = runner.logs.filter(({ message }) => message.startsWith('xxx')).map(({ message }) => message)
    expect(long.join('')).toBe('x'.repeat(100_000))
    expect(Math.max(...runner.logs.map(({ message }) => message.length))).toBeLessThan(20_000)
  })

  it('that nobody reads stops the printing module only', async () => {
    const runner = await startLoaded({ module: 'chatty' })
    runner.process.stdout?.pause()
    const call = runner.open('POST', '/infer', inference({ lines: 100_000 }))
    await runner.until(({ inflight }) => inflight === 1)
    expect((await runner.health()).state).toBe('ready')
    runner.process.stdout?.resume()
    expect((await call.response).statusCode).toBe(200)
    await vi.waitFor(
      () => expect(runner.logs.some(({ message }) => message.startsWith('line 99999 '))).toBe(true),
      patience,
    )
    expect(runner.logs.filter(({ message }) => message.startsWith('line ')).length).toBe(100_000)
  })
})
