import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { moduleView, testServer } from './fake-services.ts'

describe('modules', () => {
  it('are listed with every field that a view has', async () => {
    const { app, services } = await testServer()
    const view = { ...moduleView('embeddings'), replicas: [], notInTheSchema: { deep: [1] } }
    Object.assign(services.modules, { list: () => [view], get: () => view })
    expect((await app.inject('/api/modules')).json()).toEqual({ modules: [view] })
    expect((await app.inject('/api/modules/embeddings')).json()).toEqual(view)
  })

  it('a view that lacks what the schema wants is still answered', async () => {
    const { app, services } = await testServer()
    Object.assign(services.modules, { get: () => ({ id: 'odd' }) })
    const answer = await app.inject('/api/modules/odd')
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toEqual({ id: 'odd' })
  })

  it('have any name that a folder may have', async () => {
    const { app } = await testServer()
    expect((await app.inject('/api/modules/two%20words')).json()).toMatchObject({ id: 'two words' })
  })

  it.each([
    ['GET', '/api/modules/x'],
    ['DELETE', '/api/modules/x'],
    ['POST', '/api/modules/x/enable'],
    ['POST', '/api/modules/x/disable'],
    ['POST', '/api/modules/x/restart'],
    ['GET', '/api/modules/x/logs'],
    ['DELETE', '/api/modules/x/scale'],
  ] as const)('%s %s of an unknown one is MODULE_NOT_FOUND', async (method, url) => {
    const { app } = await testServer()
    const answer = await app.inject({ method, url })
    expect(answer.statusCode).toBe(404)
    expect(answer.json().error).toMatchObject({ code: 'MODULE_NOT_FOUND', details: { module: 'x' } })
  })

  it.each(['enable', 'disable', 'restart'])(
    '%s answers 202 while work goes on, 200 with ?wait=true',
    async (action) => {
      const { app, services } = await testServer()
      const url = `/api/modules/embeddings/${action}`
      const started = await app.inject({ method: 'POST', url })
      expect(started.statusCode).toBe(202)
      expect(started.json()).toMatchObject({ id: 'embeddings', state: 'starting' })
      const waited = await app.inject({ method: 'POST', url: `${url}?wait=true` })
      expect(waited.statusCode).toBe(200)
      expect(waited.json()).toMatchObject({ state: 'ready' })
      expect(services.asked).toEqual([`${action} embeddings wait=false`, `${action} embeddings wait=true`])
    },
  )

  it.each([
    [{ replicas: 2 }, { min: 2, max: 2 }],
    [
      { min: 0, max: 4 },
      { min: 0, max: 4 },
    ],
    [{ replicas: 0 }, { min: 0, max: 0 }],
    [
      { min: 64, max: 64 },
      { min: 64, max: 64 },
    ],
  ])('are scaled by %j: 202, or 200 with ?wait=true', async (payload, scale) => {
    const { app, services } = await testServer()
    const url = '/api/modules/embeddings/scale'
    const accepted = await app.inject({ method: 'PUT', url, payload })
    expect(accepted.statusCode).toBe(202)
    expect(accepted.json()).toEqual({ ...scale, replicas: 0, module: expect.objectContaining({ id: 'embeddings' }) })
    expect((await app.inject({ method: 'PUT', url: `${url}?wait=true`, payload })).statusCode).toBe(200)
    const asked = `scale ${JSON.stringify(scale)} embeddings`
    expect(services.asked).toEqual([`${asked} wait=false`, `${asked} wait=true`])
  })

  it.each([
    [{}, 'replicas'],
    [{ min: 1 }, 'max'],
    [{ max: 1 }, 'min'],
    [{ min: 3, max: 2 }, 'min'],
    [{ replicas: 2, max: 3 }, 'replicas'],
    [{ replicas: -1 }, 'replicas'],
    [{ replicas: 65 }, 'replicas'],
    [{ replicas: 1.5 }, 'replicas'],
    [{ replicas: '2' }, 'replicas'],
    [{ replicas: null }, 'replicas'],
    [{ min: 0, max: 65 }, 'max'],
    [{ replicas: 1, count: 1 }, 'count'],
  ])('are not scaled by %j: REQUEST_INVALID names %s', async (payload, field) => {
    const { app, services } = await testServer()
    const answer = await app.inject({ method: 'PUT', url: '/api/modules/embeddings/scale', payload })
    expect(answer.statusCode).toBe(400)
    expect(answer.json().error).toMatchObject({ code: 'REQUEST_INVALID', details: { field } })
    expect(services.asked).toEqual([])
  })

  it("get their manifest's scale back", async () => {
    const { app, services } = await testServer()
    const answer = await app.inject({ method: 'DELETE', url: '/api/modules/embeddings/scale?wait=true' })
    expect(answer.statusCode).toBe(200)
    expect(services.asked).toEqual(['scale undefined embeddings wait=true'])
  })

  it('an empty JSON body on an action is none', async () => {
    const { app } = await testServer()
    const headers = { 'content-type': 'application/json', 'content-length': '0' }
    const answer = await app.inject({ method: 'POST', url: '/api/modules/embeddings/enable', headers, payload: '' })
    expect(answer.statusCode).toBe(202)
  })

  it('are added by their source', async () => {
    const { app, services } = await testServer()
    const answer = await app.inject({
      method: 'POST',
      url: '/api/modules?wait=true',
      payload: { source: 'some/image:1' },
    })
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toMatchObject({ id: 'added' })
    expect(services.asked).toEqual(['add some/image:1 wait=true'])
  })

  it('an error while waiting is the answer', async () => {
    const { app, services } = await testServer()
    services.during = () => Promise.reject(new BerthError('START_TIMEOUT', 'It did not start.'))
    const answer = await app.inject({ method: 'POST', url: '/api/modules/embeddings/enable?wait=true' })
    expect(answer.statusCode).toBe(504)
    expect(answer.json().error).toMatchObject({ code: 'START_TIMEOUT', retryable: true })
  })

  it('are removed: 202 with the module while it goes, 204 when it is gone', async () => {
    const { app } = await testServer()
    const started = await app.inject({ method: 'DELETE', url: '/api/modules/embeddings' })
    expect(started.statusCode).toBe(202)
    expect(started.json()).toMatchObject({ id: 'embeddings' })
    const gone = await app.inject({ method: 'DELETE', url: '/api/modules/two%20words?wait=true' })
    expect(gone.statusCode).toBe(204)
    expect(gone.body).toBe('')
  })

  it('rpc/load and rpc/offload pass models on and answer what was done', async () => {
    const { app, services } = await testServer()
    const models = { m: { precision: 'fp16', nested: { deep: [1, null] } } }
    const loaded = await app.inject({ method: 'POST', url: '/api/modules/embeddings/rpc/load', payload: { models } })
    expect([loaded.statusCode, loaded.json()]).toEqual([200, { loaded: ['m'] }])
    expect(services.asked[1]).toBe(JSON.stringify(models))
    const payload = { models: ['m'] }
    const offloaded = await app.inject({ method: 'POST', url: '/api/modules/embeddings/rpc/offload', payload })
    expect([offloaded.statusCode, offloaded.json()]).toEqual([200, { offloaded: ['m'] }])
  })
})

describe('models', () => {
  it('are listed and found by name', async () => {
    const { app } = await testServer()
    const { models } = (await app.inject('/api/models')).json()
    expect(models).toMatchObject([{ name: 'minilm', module: 'embeddings' }])
    expect((await app.inject('/api/models/minilm')).json()).toEqual(models[0])
    expect((await app.inject('/api/models/other')).json().error.code).toBe('MODEL_NOT_FOUND')
  })

  it.each(['load', 'offload'])('%s answers 202 with the module, or 200 with ?wait=true', async (action) => {
    const { app, services } = await testServer()
    const url = `/api/models/minilm/${action}`
    const accepted = await app.inject({ method: 'POST', url })
    expect(accepted.statusCode).toBe(202)
    expect(accepted.json()).toMatchObject({ id: 'embeddings', security: expect.anything() })
    expect((await app.inject({ method: 'POST', url: `${url}?wait=true` })).statusCode).toBe(200)
    expect(services.asked).toEqual([`${action} minilm wait=false`, `${action} minilm wait=true`])
  })
})

describe('the rest of the system', () => {
  it('the plan has its steps with their causes', async () => {
    const { app } = await testServer()
    expect((await app.inject('/api/plan')).json()).toEqual({
      steps: [{ action: 'adopt', module: 'm', replica: 'm-0', cause: 'm-0 was running already' }],
    })
  })

  it('environments are listed and pruned', async () => {
    const { app } = await testServer()
    const listed = { environments: [{ key: 'abc', bytes: 10, modules: ['embeddings'] }] }
    expect((await app.inject('/api/environments')).json()).toEqual(listed)
    const pruned = await app.inject({ method: 'POST', url: '/api/environments/prune' })
    expect(pruned.json()).toEqual({ removed: [{ key: 'old' }] })
  })

  it('GPUs are devices with their holders, and `all` is none', async () => {
    const { app } = await testServer()
    expect((await app.inject('/api/gpus')).json()).toEqual({
      gpus: [
        {
          id: 'nvidia.com/gpu=0',
          kind: 'nvidia',
          memory: 8_000,
          used: 3_000,
          holders: ['ocr'],
          allocations: [
            { module: 'ocr', replica: 'ocr-0', exclusive: false, declared: 2_000, measured: 3_000, held: 3_000 },
          ],
        },
      ],
    })
  })

  it('says what it is and runs on', async () => {
    const { app } = await testServer()
    expect((await app.inject('/api/system')).json()).toEqual({
      version: '0.1.0',
      instance: 'test',
      engine: { name: 'memory', description: 'memory engine', reason: 'a test' },
    })
  })

  it('shuts down when asked to', async () => {
    const { app, services } = await testServer()
    expect((await app.inject({ method: 'POST', url: '/api/shutdown' })).json()).toEqual({ stopped: ['embeddings'] })
    expect(services.asked).toEqual(['shutdown'])
  })
})

describe('the documentation', () => {
  it('has every route with its answers, and resolves every reference', async () => {
    const { app } = await testServer({
      plugins: [(scope) => void scope.post('/api/extra', { schema: { summary: 'Extra' } }, () => ({}))],
    })
    const text = (await app.inject('/openapi.json')).body
    const document = JSON.parse(text)
    expect(document.openapi).toBe('3.1.0')
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining(['/healthz', '/api/modules/{id}/rpc/load', '/api/models', '/api/events', '/api/extra']),
    )
    for (const [path, methods] of Object.entries<Record<string, { responses: object; summary: string }>>(
      document.paths,
    )) {
      for (const operation of Object.values(methods)) {
        expect(operation.summary, path).not.toBe('')
        expect(Object.keys(operation.responses), path).not.toHaveLength(0)
      }
    }
    for (const [, name] of text.matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)) {
      expect(document.components.schemas).toHaveProperty(name ?? '')
    }
    expect(text).not.toMatch(/"\$ref":"(?!#\/components\/schemas\/)/)
  })

  it('is a page that fetches nothing from elsewhere and may run nothing but its own scripts', async () => {
    const { app } = await testServer()
    const page = await app.inject('/docs/')
    expect(page.statusCode).toBe(200)
    expect(page.body).not.toMatch(/(src|href)="(https?:)?\/\//)
    expect(page.body).not.toMatch(/<script(?![^>]*\bsrc=)/)
    const policy = String(page.headers['content-security-policy'])
    expect(policy).toContain("default-src 'self'")
    expect(policy).not.toMatch(/https?:|upgrade-insecure-requests/)
    for (const [, path] of page.body.matchAll(/(?:src|href)="\.\/([^"]+)"/g)) {
      expect((await app.inject(`/docs/${path}`)).statusCode, path).toBe(200)
    }
  })
})
