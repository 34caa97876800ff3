import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { withKeys } from '../../../orchestrator/http/auth/authenticator.ts'
import { createKeyService } from '../../../orchestrator/http/auth/key-service.ts'
import { hashKey } from '../../../orchestrator/http/auth/keys.ts'
import { inferRoutes } from '../../../orchestrator/http/routes/infer.ts'
import { listen } from '../../../orchestrator/http/server.ts'
import { fakeServices, memoryKeys, temporaryFolder, testServer } from './fake-services.ts'

const noon = Date.parse('2026-01-31T12:00:00Z')

/** A server with keys, its clock at noon, and the admin key `root`. */
async function keyed(more: { readonly required?: boolean; readonly given?: boolean } = {}) {
  const clock = { nowMs: noon }
  const keys = memoryKeys()
  const file = join(await temporaryFolder(), 'admin.key')
  await writeFile(file, 'root\n')
  keys.put({
    name: 'admin',
    hash: hashKey('root'),
    scopes: ['admin', 'infer'],
    priority: 'normal',
    createdAt: '2026-01-01T00:00:00.000Z',
  })
  const noted: string[] = []
  const service = createKeyService({
    keys,
    required: more.required ?? true,
    adminKey: more.given ? { variable: 'BERTH_ADMIN_KEY' } : { file },
    nowMs: () => clock.nowMs,
    log: (message) => noted.push(message),
    onRemoved: (caller) => server.app.endStreamsOf(caller),
  })
  const asked: string[] = []
  const dispatcher = {
    dispatch(request: { model: string; module?: string }, sink: { fail(error: BerthError): void }) {
      asked.push([request.module, request.model].filter(Boolean).join('/'))
      sink.fail(new BerthError('MODULE_BUSY', 'later'))
      return { cancel() {}, resume() {} } as never
    },
  }
  const server = await testServer({
    config: { auth: 'keys' },
    auth: withKeys(keys, () => clock.nowMs),
    services: Object.assign(fakeServices(), { keys: service }),
    plugins: [(scope, { services }) => inferRoutes(scope, { dispatcher, models: services.models })],
  })
  const { app } = server
  const as = (secret: string) => async (method: 'GET' | 'POST' | 'PUT' | 'DELETE', url: string, payload?: object) => {
    const headers = { authorization: `Bearer ${secret}` }
    const answer = await app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) })
    return { status: answer.statusCode, headers: answer.headers, body: answer.body === '' ? '' : answer.json() }
  }
  const root = as('root')
  const make = async (wish: object): Promise<string> => (await root('POST', '/api/keys', wish)).body.secret
  return { ...server, as, asked, clock, file, keys, make, noted, root }
}

describe('making a key', () => {
  it('shows its secret once, and keeps only a hash', async () => {
    const { keys, logged, noted, root } = await keyed()
    const wish = {
      name: 'ci',
      scopes: ['infer'],
      models: ['minilm'],
      expiresAt: '2026-02-01T00:00:00+01:00',
      priority: 'low',
    }
    const { status, headers, body } = await root('POST', '/api/keys', wish)
    const key = { ...wish, expiresAt: '2026-01-31T23:00:00.000Z', createdAt: '2026-01-31T12:00:00.000Z' }
    expect([status, headers['cache-control']]).toEqual([201, 'no-store'])
    expect(body).toEqual({ secret: expect.stringMatching(/^berth_[\w-]{43}$/), key })
    const listed = (await root('GET', '/api/keys')).body
    expect(listed).toEqual({ required: true, keys: [expect.objectContaining({ name: 'admin' }), key] })
    expect(keys.records.get('ci')?.hash).toBe(hashKey(body.secret))
    expect(JSON.stringify([listed, [...keys.records], logged, noted])).not.toContain(body.secret)
    expect(JSON.stringify(listed)).not.toContain(hashKey(body.secret))
    expect(noted).toEqual(['key:admin made the API key ci (infer)'])
  })

  it('of which nothing is said but its name may infer, with every model, for ever', async () => {
    const { root } = await keyed()
    const { key } = (await root('POST', '/api/keys', { name: 'a.b_c@d-1' })).body
    expect(key).toEqual({
      name: 'a.b_c@d-1',
      scopes: ['infer'],
      priority: 'normal',
      createdAt: '2026-01-31T12:00:00.000Z',
    })
  })

  it.each([
    [{}, 'name'],
    [{ name: '' }, 'name'],
    [{ name: 'two words' }, 'name'],
    [{ name: '-x' }, 'name'],
    [{ name: 'x'.repeat(65) }, 'name'],
    [{ name: 'admin' }, 'name'],
    [{ name: 'taken' }, 'name'],
    [{ name: 'x', scopes: [] }, 'scopes'],
    [{ name: 'x', scopes: ['root'] }, 'scopes.0'],
    [{ name: 'x', scopes: 'infer' }, 'scopes'],
    [{ name: 'x', models: [] }, 'models'],
    [{ name: 'x', models: ['m'], scopes: ['admin'] }, 'models'],
    [{ name: 'x', expiresAt: 'tomorrow' }, 'expiresAt'],
    [{ name: 'x', expiresAt: '2030-02-31T99:00:00Z' }, 'expiresAt'],
    [{ name: 'x', expiresAt: '2030-02-30T00:00:00Z' }, 'expiresAt'],
    [{ name: 'x', expiresAt: '2030-01-01T00:00:00' }, 'expiresAt'],
    [{ name: 'x', expiresAt: '2026-01-31T12:00:00Z' }, 'expiresAt'],
    [{ name: 'x', priority: 'urgent' }, 'priority'],
    [{ name: 'x', secret: 'mine' }, 'secret'],
  ])('from %j is REQUEST_INVALID, naming %s', async (wish, field) => {
    const { keys, make, root } = await keyed()
    await make({ name: 'taken' })
    const { status, body } = await root('POST', '/api/keys', wish)
    expect(status).toBe(400)
    expect(body.error).toMatchObject({ code: 'REQUEST_INVALID', details: { field } })
    expect([...keys.records.keys()]).toEqual(['admin', 'taken'])
  })
})

describe('a key with the scope infer', () => {
  it('infers and lists models, and gets FORBIDDEN naming the scope for all else', async () => {
    const { as, asked, make, services } = await keyed()
    const call = as(await make({ name: 'ci' }))
    expect((await call('POST', '/api/models/minilm/infer', {})).status).toBe(429)
    expect((await call('POST', '/api/modules/embeddings/rpc/infer', { name: 'minilm' })).status).toBe(429)
    expect(asked).toEqual(['minilm', 'embeddings/minilm'])
    expect((await call('GET', '/api/models')).body.models).toMatchObject([{ name: 'minilm' }])
    for (const [method, url] of [
      ['GET', '/api/modules'],
      ['GET', '/api/modules/embeddings'],
      ['GET', '/api/modules/embeddings/logs'],
      ['POST', '/api/modules/embeddings/enable'],
      ['PUT', '/api/modules/embeddings/scale'],
      ['POST', '/api/modules/embeddings/rpc/load'],
      ['POST', '/api/models/minilm/load'],
      ['GET', '/api/keys'],
      ['POST', '/api/keys'],
      ['DELETE', '/api/keys/admin'],
      ['GET', '/api/events'],
      ['GET', '/api/plan'],
      ['GET', '/api/gpus'],
      ['GET', '/api/system'],
      ['GET', '/api/environments'],
      ['POST', '/api/shutdown'],
    ] as const) {
      const { status, body } = await call(method, url)
      expect([status, body.error.code, body.error.details.needs], url).toEqual([403, 'FORBIDDEN', 'admin'])
      expect(body.error.message).toContain('needs the scope admin')
    }
    expect((await call('GET', '/metrics')).body.error.details.needs).toBe('metrics')
    expect(services.asked).toEqual([])
  })

  it('and models uses only these, by their name or by an alias of theirs, and sees only these', async () => {
    const { as, asked, make } = await keyed()
    const call = as(await make({ name: 'ci', models: ['minilm'] }))
    for (const [url, body] of [
      ['/api/models/minilm/infer', {}],
      ['/api/models/nick/infer', {}],
      ['/api/modules/embeddings/rpc/infer', { name: 'minilm' }],
    ] as const)
      expect((await call('POST', url, body)).status, url).toBe(429)
    expect(asked).toHaveLength(3)
    for (const [method, url, body] of [
      ['POST', '/api/models/other/infer', {}],
      ['POST', '/api/models/constructor/infer', {}],
      ['POST', '/api/modules/embeddings/rpc/infer', { name: 'other' }],
      ['POST', '/api/modules/another/rpc/infer', { name: 'minilm' }],
      ['GET', '/api/models/other', undefined],
    ] as const) {
      const answer = await call(method, url, body)
      expect([answer.status, answer.body.error.code], url).toEqual([403, 'FORBIDDEN'])
      expect(answer.body.error.details.models).toEqual(['minilm'])
    }
    expect(asked).toHaveLength(3)
    expect((await call('GET', '/api/models')).body.models).toHaveLength(1)
    const elsewhere = as(await make({ name: 'other', models: ['other'] }))
    expect((await elsewhere('GET', '/api/models')).body).toEqual({ models: [] })
    const byAlias = as(await make({ name: 'alias', models: ['nick'] }))
    expect((await byAlias('POST', '/api/models/nick/infer', {})).status).toBe(429)
    expect((await byAlias('POST', '/api/models/minilm/infer', {})).status).toBe(403)
  })
})

it('a key with the scope metrics reads the figures and nothing else', async () => {
  const { app, as, make } = await keyed()
  const secret = await make({ name: 'prometheus', scopes: ['metrics'] })
  const answer = await app.inject({ url: '/metrics', headers: { 'x-api-key': secret } })
  expect([answer.statusCode, answer.body]).toEqual([200, expect.stringContaining('# HELP')])
  expect((await as(secret)('GET', '/api/models')).body.error).toMatchObject({
    code: 'FORBIDDEN',
    details: { needs: 'infer', scopes: ['metrics'] },
  })
})

it('a key with the scope admin alone may do everything', async () => {
  const { as, make } = await keyed()
  const call = as(await make({ name: 'ops', scopes: ['admin'] }))
  expect((await call('GET', '/api/models')).status).toBe(200)
  expect((await call('GET', '/api/keys')).status).toBe(200)
})

it('an expired key is UNAUTHORIZED from that moment on, and says so', async () => {
  const { as, clock, make } = await keyed()
  const call = as(await make({ name: 'ci', expiresAt: '2026-01-31T13:00:00Z' }))
  clock.nowMs = Date.parse('2026-01-31T12:59:59.999Z')
  expect((await call('GET', '/api/models')).status).toBe(200)
  clock.nowMs += 1
  const { status, body, headers } = await call('GET', '/api/models')
  expect(status).toBe(401)
  expect(headers['www-authenticate']).toBe('Bearer')
  expect(body.error).toMatchObject({
    code: 'UNAUTHORIZED',
    message: 'The API key ci expired at 2026-01-31T13:00:00.000Z.',
  })
})

describe('removing a key', () => {
  it('makes it UNAUTHORIZED at once, and only it', async () => {
    const { as, make, noted, root } = await keyed()
    const [ci, other] = [as(await make({ name: 'ci' })), as(await make({ name: 'other' }))]
    expect((await root('DELETE', '/api/keys/ci')).status).toBe(204)
    const { status, body } = await ci('GET', '/api/models')
    expect([status, body.error.code, body.error.message]).toEqual([
      401,
      'UNAUTHORIZED',
      expect.stringContaining('was removed'),
    ])
    expect((await other('GET', '/api/models')).status).toBe(200)
    expect((await root('DELETE', '/api/keys/ci')).body.error.code).toBe('NOT_FOUND')
    expect(noted.at(-1)).toBe('key:admin removed the API key ci')
  })

  it('ends what it follows', async () => {
    const { app, make, root } = await keyed()
    const url = await listen(app, { host: '127.0.0.1', port: 0 })
    const follow = async (name: string) => {
      const authorization = `Bearer ${await make({ name, scopes: ['admin'] })}`
      return fetch(`${url}/api/events`, { headers: { authorization } })
    }
    const [removed, other] = [await follow('ops'), await follow('other')]
    await root('DELETE', '/api/keys/ops')
    await removed.text()
    const goesOn = other.text().then(
      () => 'ended',
      () => 'broken',
    )
    expect(await Promise.race([goesOn, root('GET', '/api/keys')])).toMatchObject({ status: 200 })
  })

  it('is not needed for one that expires: what it follows ends then', async () => {
    const { app, clock, make } = await keyed()
    clock.nowMs = Date.now()
    const url = await listen(app, { host: '127.0.0.1', port: 0 })
    const expiresAt = new Date(Date.now() + 1_500).toISOString()
    const authorization = `Bearer ${await make({ name: 'ops', scopes: ['admin'], expiresAt })}`
    const events = await fetch(`${url}/api/events`, { headers: { authorization } })
    expect(events.status).toBe(200)
    await events.text()
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(expiresAt))
  })

  it('with the scope admin is FORBIDDEN while no other one is there that works', async () => {
    const { as, clock, keys, make, root } = await keyed()
    await make({ name: 'old', scopes: ['admin'], expiresAt: '2026-01-31T13:00:00Z' })
    clock.nowMs = Date.parse('2026-01-31T14:00:00Z')
    const refused = await root('DELETE', '/api/keys/admin')
    expect([refused.status, refused.body.error.code]).toEqual([403, 'FORBIDDEN'])
    expect(refused.body.error.details.remedy).toContain('berth keys add')
    expect((await root('DELETE', '/api/keys/old')).status).toBe(204)

    const ops = as(await make({ name: 'ops', scopes: ['admin'] }))
    expect((await ops('DELETE', '/api/keys/admin')).status).toBe(204)
    expect((await ops('DELETE', '/api/keys/ops')).status).toBe(403)
    expect([...keys.records.keys()]).toEqual(['ops'])
  })

  it('of the name admin takes its file along, as it would be back after the next start', async () => {
    const { file, make, root } = await keyed()
    await make({ name: 'ops', scopes: ['admin'] })
    expect((await root('DELETE', '/api/keys/admin')).status).toBe(204)
    expect(await readdir(dirname(file))).toEqual([])
  })

  it('whose file can not be deleted changes nothing', async () => {
    const { file, keys, make, root } = await keyed()
    await make({ name: 'ops', scopes: ['admin'] })
    await rm(file)
    await mkdir(join(file, 'inside'), { recursive: true })
    expect((await root('DELETE', '/api/keys/admin')).status).toBe(500)
    expect(keys.records.has('admin')).toBe(true)
  })

  it('that the environment gives is FORBIDDEN, saying where it comes from', async () => {
    const { make, root } = await keyed({ given: true })
    await make({ name: 'ops', scopes: ['admin'] })
    const { status, body } = await root('DELETE', '/api/keys/admin')
    expect([status, body.error.code]).toEqual([403, 'FORBIDDEN'])
    expect(body.error.message).toContain('BERTH_ADMIN_KEY')
  })

  it('may be any where none is needed', async () => {
    const { file, root } = await keyed({ required: false })
    expect((await root('DELETE', '/api/keys/admin')).status).toBe(204)
    expect(await readdir(dirname(file))).toEqual([])
  })
})
