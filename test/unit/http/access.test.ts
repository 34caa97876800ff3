import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { isLoopback } from '../../../orchestrator/config/address.ts'
import type { KeyScope } from '../../../orchestrator/domain/api-key.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { ensureAdminKey } from '../../../orchestrator/http/auth/admin-key.ts'
import { withKeys } from '../../../orchestrator/http/auth/authenticator.ts'
import { hashKey, makeKey } from '../../../orchestrator/http/auth/keys.ts'
import type { RoutePlugin } from '../../../orchestrator/http/server.ts'
import { memoryKeys, temporaryFolder, testServer } from './fake-services.ts'

const whoami: RoutePlugin = (app) => {
  app.get('/whoami', { config: { access: 'infer' } }, (request) => request.caller)
}

describe('without keys', () => {
  it.each([
    'localhost',
    'localhost:8080',
    '127.0.0.1:9',
    '[::1]:8080',
    '127.0.0.5',
    'LOCALHOST',
    'berth.localhost:8080',
    'berth.lan',
    'berth.lan:80',
  ])('Host %s is let in', async (host) => {
    const { app } = await testServer({ config: { allowedHosts: ['berth.lan'] } })
    expect((await app.inject({ url: '/api/modules', headers: { host } })).statusCode).toBe(200)
  })

  it.each([
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    '10.0.0.1',
    'box:81',
  ])('Host %j is FORBIDDEN, as a page that rebinds its name would send it', async (host) => {
    const { app } = await testServer({ config: { allowedHosts: ['box:80'] } })
    const answer = await app.inject({ url: '/api/modules', headers: { host } })
    expect(answer.statusCode).toBe(403)
    expect(answer.json().error).toMatchObject({
      code: 'FORBIDDEN',
      details: { field: 'host', remedy: expect.stringContaining('allowed_hosts') },
    })
  })

  it.each(['http://localhost:8080', 'http://berth.lan', 'https://berth.lan:444'])(
    'Origin %s is let in',
    async (origin) => {
      const { app } = await testServer({ config: { allowedHosts: ['berth.lan'] } })
      const answer = await app.inject({ url: '/api/modules', headers: { host: 'localhost:8080', origin } })
      expect(answer.statusCode).toBe(200)
      expect(answer.headers).not.toHaveProperty('access-control-allow-origin')
    },
  )

  it.each(['http://evil.example', 'http://localhost:3000', 'null', 'http://localhost:8080@evil.example', 'file://'])(
    'Origin %s is FORBIDDEN',
    async (origin) => {
      const { app, services } = await testServer()
      const answer = await app.inject({
        method: 'POST',
        url: '/api/modules/embeddings/enable',
        headers: { host: 'localhost:8080', origin },
      })
      expect(answer.statusCode).toBe(403)
      expect(answer.json().error.details.field).toBe('origin')
      expect(services.asked).toEqual([])
    },
  )

  it.each(['0.0.0.0', '::', '192.168.1.5'])('nothing is served on %s', async (host) => {
    await expect(testServer({ config: { listen: { host, port: 0 } } })).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
    })
  })

  it('health answers whatever the host', async () => {
    const { app } = await testServer()
    expect((await app.inject({ url: '/healthz', headers: { host: 'probe' } })).statusCode).toBe(200)
  })

  it('callers are told apart by address', async () => {
    const { app } = await testServer({ plugins: [whoami] })
    expect((await app.inject('/whoami')).json()).toEqual({ id: 'address:127.0.0.1', admin: true })
  })
})

describe('with keys', () => {
  const start = async (...scopes: KeyScope[]) => {
    const keys = memoryKeys()
    const secret = makeKey()
    keys.put({ name: 'ci', hash: hashKey(secret), scopes, priority: 'normal', createdAt: '2026-01-01T00:00:00Z' })
    return { secret, ...(await testServer({ config: { auth: 'keys' }, auth: withKeys(keys), plugins: [whoami] })) }
  }

  it.each(['/healthz', '/readyz'])('%s is open', async (url) => {
    const { app } = await start('admin')
    expect((await app.inject(url)).statusCode).toBe(200)
  })

  it.each([
    '/api/modules',
    '/metrics',
    '/openapi.json',
    '/docs',
    '/docs/static/swagger-ui.css',
    '/api/events',
    '/nothing',
  ])('%s needs one', async (url) => {
    const { app } = await start('admin')
    const answer = await app.inject(url)
    expect(answer.statusCode).toBe(401)
    expect(answer.json().error).toMatchObject({ code: 'UNAUTHORIZED', details: { remedy: expect.any(String) } })
    expect(answer.headers['www-authenticate']).toBe('Bearer')
  })

  it('takes it as a bearer token and as x-api-key, from any host', async () => {
    const { app, secret } = await start('admin')
    for (const headers of [
      { authorization: `Bearer ${secret}` },
      { authorization: `bearer ${secret}` },
      { 'x-api-key': secret },
    ]) {
      const answer = await app.inject({ url: '/whoami', headers: { host: 'berth.example', ...headers } })
      expect(answer.json()).toEqual({
        id: 'key:ci',
        admin: true,
        key: { name: 'ci', scopes: ['admin'], priority: 'normal' },
      })
    }
  })

  it.each(['wrong', `${makeKey()}`, ''])('a key that is not known is UNAUTHORIZED and not logged', async (wrong) => {
    const { app, logged } = await start('admin')
    const answer = await app.inject({ url: '/api/modules', headers: { authorization: `Bearer ${wrong}` } })
    expect(answer.statusCode).toBe(401)
    if (wrong !== '') expect(logged.join('')).not.toContain(`"${wrong}"`)
  })

  it('the scope infer sees models and may not change anything', async () => {
    const { app, secret, services } = await start('infer')
    const headers = { 'x-api-key': secret }
    expect((await app.inject({ url: '/api/models', headers })).statusCode).toBe(200)
    const answer = await app.inject({ method: 'POST', url: '/api/shutdown', headers })
    expect(answer.statusCode).toBe(403)
    expect(answer.json().error.code).toBe('FORBIDDEN')
    expect(services.asked).toEqual([])
  })

  it('the scope infer sees why a model fails without its traceback', async () => {
    for (const [scope, seen] of [
      ['admin', true],
      ['infer', false],
    ] as const) {
      const { app, secret, services } = await start(scope)
      const error = new BerthError('LOAD_FAILED', 'No.', { module: 'm', traceback: 'in service.py' }).toBody()
      const view = { ...services.models.get('minilm'), error }
      Object.assign(services.models, { list: () => [view], get: () => view })
      for (const url of ['/api/models', '/api/models/minilm']) {
        const text = (await app.inject({ url, headers: { 'x-api-key': secret } })).body
        expect(text).toContain('"details":{"module":"m"')
        expect(text.includes('in service.py'), `${scope} ${url}`).toBe(seen)
      }
    }
  })

  it('a body is not read before the key is known', async () => {
    const { app } = await start('admin')
    const answer = await app.inject({
      method: 'POST',
      url: '/api/modules',
      payload: '{"bro',
      headers: { 'content-type': 'application/json' },
    })
    expect(answer.statusCode).toBe(401)
  })
})

describe('the admin key', () => {
  it('is made once, for its owner only, and kept hashed', async () => {
    const folder = await temporaryFolder()
    const keys = memoryKeys()
    const path = join(folder, 'admin.key')
    expect(await ensureAdminKey(keys, folder)).toEqual({ from: 'made', path })

    const secret = (await readFile(path, 'utf8')).trim()
    expect(secret).toMatch(/^berth_[\w-]{43}$/)
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await readdir(folder)).toEqual(['admin.key'])
    expect(keys.find(hashKey(secret))).toMatchObject({ name: 'admin', scopes: ['admin', 'infer'] })
    expect(JSON.stringify([...keys.records])).not.toContain(secret)

    expect(await ensureAdminKey(keys, folder)).toEqual({ from: 'file', path })
    expect((await readFile(path, 'utf8')).trim()).toBe(secret)
  })

  it('given by the environment replaces the made one and is written nowhere', async () => {
    const folder = await temporaryFolder()
    const keys = memoryKeys()
    await ensureAdminKey(keys, folder)
    const made = (await readFile(join(folder, 'admin.key'), 'utf8')).trim()
    expect(await ensureAdminKey(keys, folder, ' given\n')).toEqual({ from: 'environment', weak: true })
    expect(keys.find(hashKey('given'))?.name).toBe('admin')
    expect(keys.find(hashKey(made))).toBeUndefined()
  })

  it('is new when its file was deleted, and the old one stops working', async () => {
    const folder = await temporaryFolder()
    const keys = memoryKeys()
    await ensureAdminKey(keys, folder)
    const [old] = keys.records.values()
    await rm(join(folder, 'admin.key'))
    await ensureAdminKey(keys, folder)
    expect(keys.find(old?.hash ?? '')).toBeUndefined()
    expect(keys.records.size).toBe(1)
  })

  it('that is long enough is not called weak', async () => {
    const folder = await temporaryFolder()
    expect(await ensureAdminKey(memoryKeys(), folder, '0123456789abcdef')).toEqual({ from: 'environment' })
    await writeFile(join(folder, 'admin.key'), 'short\n')
    expect(await ensureAdminKey(memoryKeys(), folder)).toMatchObject({ from: 'file', weak: true })
  })

  it.each(['two words', 'two\nlines', 'schlüssel'])(
    'in the file that no header can hold is refused: %j',
    async (key) => {
      const folder = await temporaryFolder()
      await writeFile(join(folder, 'admin.key'), key)
      await expect(ensureAdminKey(memoryKeys(), folder)).rejects.toMatchObject({
        code: 'CONFIG_INVALID',
        message: expect.stringContaining('without spaces'),
      })
    },
  )

  it('that was removed in favour of others is not made again, unless those expire', async () => {
    const folder = await temporaryFolder()
    const keys = memoryKeys()
    const ops = { name: 'ops', hash: hashKey('ops'), scopes: ['admin'], priority: 'normal', createdAt: '' } as const
    keys.put(ops)
    expect(await ensureAdminKey(keys, folder)).toEqual({ from: 'others' })
    expect([await readdir(folder), keys.list()]).toEqual([[], [ops]])
    keys.put({ ...ops, expiresAt: '2999-01-01T00:00:00.000Z' })
    expect(await ensureAdminKey(keys, folder)).toMatchObject({ from: 'made' })
    expect(keys.list().map(({ name }) => name)).toEqual(['ops', 'admin'])
  })

  it('that cannot be kept says what to do', async () => {
    const folder = await temporaryFolder()
    await writeFile(join(folder, 'file'), '')
    await expect(ensureAdminKey(memoryKeys(), join(folder, 'file'))).rejects.toMatchObject({
      code: 'CONFIG_INVALID',
      details: { remedy: expect.stringContaining('BERTH_ADMIN_KEY') },
    })
  })
})

it('loopback is 127.0.0.0/8, ::1 and localhost', () => {
  const own = [
    'localhost',
    'berth.localhost',
    'LOCALHOST',
    '127.0.0.1',
    '127.9.9.9',
    '::1',
    '[::1]',
    '::ffff:127.0.0.1',
  ]
  expect(own.filter((host) => !isLoopback(host))).toEqual([])
  expect(['0.0.0.0', '::', '127.0.0.1.nip.io', '10.0.0.1', ''].some(isLoopback)).toBe(false)
})
