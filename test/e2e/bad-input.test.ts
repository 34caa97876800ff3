import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf, inferFailure, textOf } from '../support/answers.ts'
import { plainModule } from '../support/engines.ts'
import { failingStart } from '../support/failing-start.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** What users get wrong in files, requests and at the start. Whatever it is, everything else goes on. */

describe('an orchestrator', () => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine: 'process',
      config: 'body_limit: 1MiB\nmodels:\n  orphan: { module: no-such-module }\n',
      modules: { good: { ...plainModule } },
    })
    await berth.infer('good')
  })
  afterAll(() => berth?.close())

  async function othersGoOn(): Promise<void> {
    expect(textOf(await berth.infer('good'))).toBe('0')
  }

  describe('given a module.yaml', () => {
    it.each([
      ['typo', 'idle_tll: 5m\n', /1:1.*idle_tll.*did you mean "?idle_ttl"?/is],
      ['nested', 'timeouts:\n  lod: 5s\n', /2:3.*lod.*did you mean "?load"?/is],
      ['wrong', 'scale: { min: many }\n', /scale\.min/],
      ['version', 'version: one\n', /version.*1\.0\.0/],
      ['broken', 'a: [1\n', /module\.yaml/],
    ])('with a mistake (%s), lists the module with its place and the way out', async (id, yaml, message) => {
      await berth.writeModule(id, { ...plainModule, 'module.yaml': yaml })
      const { state, error } = await berth.until(id, (view) => view.error !== undefined)
      expect(state).toBe('failed')
      expect(error).toMatchObject({ code: 'MANIFEST_INVALID', retryable: false })
      expect(`${error?.message}\n${JSON.stringify(error?.details)}`).toMatch(message)
      expect(error?.details).toMatchObject({ module: id, remedy: expect.stringContaining('module.yaml') })
      expect(await inferFailure(berth, id)).toMatchObject({ code: 'MANIFEST_INVALID', status: 422 })
      await othersGoOn()

      await berth.writeModule(id, { 'module.yaml': 'idle_ttl: 5m\n' })
      await waitFor(10_000, 'it answers', async () => textOf(await berth.infer(id)) === '0')
    })

    it('that goes bad later, keeps the module at work as it was, with the error beside it', async () => {
      await berth.writeModule('later', { ...plainModule, 'module.yaml': 'idle_ttl: 5m\n' })
      await waitFor(10_000, 'it answers', async () => textOf(await berth.infer('later')) === '0')
      await berth.writeModule('later', { 'module.yaml': 'idle_tll: 5m\n' })
      await berth.until('later', (view) => view.error?.code === 'MANIFEST_INVALID')
      expect(textOf(await berth.infer('later'))).toBe('0')
    })
  })

  describe('asked for', () => {
    it('a model that nobody has, says so', async () => {
      const failure = await inferFailure(berth, 'goood')
      expect(failure).toMatchObject({ status: 404, code: 'MODEL_NOT_FOUND', details: { model: 'goood' } })
      expect(failure.message).toMatch(/goood.*(berth models|good)/)
    })

    it('a model of a module that is not there, names the module', async () => {
      const failure = await inferFailure(berth, 'orphan')
      expect(failure).toMatchObject({ status: 404, code: 'MODULE_NOT_FOUND' })
      expect(failure.message).toMatch(/orphan.*no-such-module/)
    })

    it('a module that is not there, says so', async () => {
      for (const [method, path] of [
        ['GET', '/api/modules/none'],
        ['POST', '/api/modules/none/enable'],
        ['DELETE', '/api/modules/none'],
        ['GET', '/api/modules/none/logs'],
      ] as const) {
        const failure = await failureOf(await berth.request(method, path, method === 'POST' ? {} : undefined))
        expect(failure, path).toMatchObject({ status: 404, code: 'MODULE_NOT_FOUND', details: { module: 'none' } })
      }
    })

    it('a route that is not there, or by another method, says which there are', async () => {
      expect(await failureOf(await berth.request('GET', '/api/modles'))).toMatchObject({
        status: 404,
        code: 'NOT_FOUND',
        details: { remedy: expect.stringContaining('/openapi.json') },
      })
      const answer = await berth.request('PUT', '/api/modules', {})
      expect(answer.headers.get('allow')).toContain('POST')
      expect(await failureOf(answer)).toMatchObject({ status: 405, code: 'METHOD_NOT_ALLOWED' })
    })
  })

  describe('sent a body', () => {
    const send = async (body: string, headers: Record<string, string> = {}) => {
      const failure = await failureOf(await berth.request('POST', '/api/models/good/infer', body, { headers }))
      await othersGoOn()
      return failure
    }

    it('that is no JSON, tells where', async () => {
      const failure = await send('{"parameters": {]}')
      expect(failure).toMatchObject({ status: 400, code: 'REQUEST_INVALID' })
      expect(failure.message).toMatch(/line 1, column 17|1:17/)
    })

    it('that is larger than body_limit, answers 413 with the limit', async () => {
      expect(await send(JSON.stringify({ parameters: { text: 'x'.repeat(2 * 1024 * 1024) } }))).toMatchObject({
        status: 413,
        code: 'PAYLOAD_TOO_LARGE',
        details: { limitBytes: 1024 * 1024, setting: 'body_limit', remedy: expect.stringContaining('berth.yaml') },
      })
    })

    it('that is nested deeply, refuses it', async () => {
      const deep = `{"parameters":{"a":${'['.repeat(100_000)}${']'.repeat(100_000)}}}`
      expect(await send(deep)).toMatchObject({ status: 400, code: 'REQUEST_INVALID' })
    })

    it('with a key it does not know or a value of the wrong kind, names it', async () => {
      expect(await send('{"paramters": {}}')).toMatchObject({ status: 400, details: { field: 'paramters' } })
      expect(await send('{"parameters": 5}')).toMatchObject({ status: 400, details: { field: 'parameters' } })
    })

    it('of another type than JSON, says which type it takes', async () => {
      const failure = await send('text', { 'content-type': 'text/plain' })
      expect(failure).toMatchObject({ status: 400, code: 'REQUEST_INVALID' })
      expect(failure.message).toContain('application/json')
    })
  })

  it('answers every refusal with the id of the request, and whether to try again', async () => {
    const answer = await berth.request('POST', '/api/models/none/infer', {}, { headers: { 'x-request-id': 'mine-1' } })
    expect(answer.headers.get('x-request-id')).toBe('mine-1')
    expect(answer.headers.get('x-should-retry')).toBe('false')
    expect(await answer.json()).toMatchObject({ error: { requestId: 'mine-1' } })
  })

  it('added an image, says that the embedded engine runs none', async () => {
    const failure = await failureOf(await berth.request('POST', '/api/modules', { source: 'some/image:1' }))
    expect(failure).toMatchObject({ status: 501, code: 'ENGINE_UNSUPPORTED' })
    expect(failure.message).toMatch(/Docker/)
  })

  it('added a path that is no folder, or nothing that it knows, says so', async () => {
    for (const source of ['/no/such/folder', '%%%']) {
      const failure = await failureOf(await berth.request('POST', '/api/modules', { source }))
      expect(failure).toMatchObject({ status: 400, code: 'REQUEST_INVALID', details: { field: 'source' } })
      expect(failure.message).toContain(source)
    }
  })

  describe('that starts', () => {
    it('on a port in use, names the port and the way out, and ends', async () => {
      const { status, said } = await failingStart({ env: { BERTH_LISTEN: new URL(berth.url).host } })
      expect(status).toBe(1)
      expect(said).toMatch(new RegExp(`can't listen on ${new URL(berth.url).host}: another program listens there`))
      expect(said).toMatch(/BERTH_LISTEN/)
      await othersGoOn()
    })

    it('on a data folder that another has, names the other one, and ends', async () => {
      const { status, said } = await failingStart({ env: { BERTH_DATA: berth.dataFolder } })
      expect(status).toBe(1)
      expect(said).toMatch(new RegExp(`${berth.dataFolder} is in use by another Berth \\(process ${berth.process.pid}`))
      expect(said).toMatch(/BERTH_DATA/)
      await othersGoOn()
    })
  })
})

describe('a start', () => {
  it('with mistakes in berth.yaml tells all of them with line and column, and ends', async () => {
    const config = [
      'listn: 127.0.0.1:0',
      'engine: dokcer',
      'models:',
      '  m: { modul: good }',
      '  n: { module: good, max_simul_users: none }',
      'module_settings:',
      '  good: { timeouts: { load: soon } }',
      `  other: { env: { TOKEN: '$\{NO_SUCH_VARIABLE_HERE}' } }`,
    ].join('\n')
    const { status, said } = await failingStart({ config, env: { BERTH_LISTEN: '', BERTH_ENGINE: '' } })
    expect(status).toBe(1)
    const places = [
      /berth\.yaml:1:1: .*listn.*listen/,
      /berth\.yaml:2:9: .*docker.*dokcer/,
      /berth\.yaml:4:8: .*modul.*module/,
      /berth\.yaml:5:39: .*max_simul_users.*none/,
      /berth\.yaml:7:29: .*soon/,
      /berth\.yaml:8:\d+: .*NO_SUCH_VARIABLE_HERE/,
    ]
    for (const place of places) expect(said.match(new RegExp(place, 'g')), `${place} in ${said}`).toHaveLength(1)
  })

  it('with a berth.yaml that is no YAML tells where, and ends', async () => {
    const { status, said } = await failingStart({ config: 'models:\n  a: [1\nb: 2\n' })
    expect(status).toBe(1)
    expect(said).toMatch(/berth\.yaml:\d+:\d+: /)
  })

  it('beyond loopback without keys is refused, with how to make a key', async () => {
    const { status, said } = await failingStart({ env: { BERTH_LISTEN: '0.0.0.0:0' } })
    expect(status).toBe(1)
    expect(said).toMatch(/0\.0\.0\.0/)
    expect(said).toMatch(/auth: keys|BERTH_ADMIN_KEY/)
  })
})
