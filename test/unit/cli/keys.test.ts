import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyTable } from '../../../orchestrator/cli/commands/keys.ts'
import { berth } from './command.ts'
import { type FakeApi, give, refuse, startFakeApi } from './fake-api.ts'

let api: FakeApi
beforeAll(async () => {
  api = await startFakeApi()
})
afterAll(() => api.close())

const ci = { name: 'ci', scopes: ['infer'], priority: 'normal', createdAt: '2026-01-31T12:00:00.000Z' } as const
const secret = `berth_${'x'.repeat(43)}`

describe('keys', () => {
  it.each([['keys'], ['keys', 'list']])('%s %s lists them', async (...args) => {
    api.on('GET /api/keys', give({ required: true, keys: [ci] }))
    const { code, stdout, stderr } = await berth(args, { url: api.url })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.split('\n')[0]).toEqual(
      expect.stringMatching(/^NAME {2}SCOPES {2}PRIORITY {2}EXPIRES {2}CREATED +MODELS$/),
    )
    expect(stdout).toMatch(/^ci {4}infer {3}normal {4}never .* all$/m)
  })

  it('says where none are asked for', async () => {
    api.on('GET /api/keys', give({ required: false, keys: [] }))
    expect((await berth(['keys'], { url: api.url })).stderr).toContain('auth: none')
    const { stdout, stderr } = await berth(['keys', '--json'], { url: api.url })
    expect([JSON.parse(stdout), stderr]).toEqual([{ required: false, keys: [] }, ''])
  })

  it('shows what is allowed and what has expired', () => {
    const keys = [
      { ...ci, models: ['a', 'b'], expiresAt: '2026-01-31T12:00:00.000Z' },
      { ...ci, name: 'ops', scopes: ['admin', 'metrics'], priority: 'high', expiresAt: '2027-01-01T00:00:00.000Z' },
    ] as const
    expect(keyTable(keys, Date.parse('2026-02-01T12:00:00Z'))).toBe(
      'NAME  SCOPES         PRIORITY  EXPIRES                   CREATED  MODELS\n' +
        'ci    infer          normal    expired 1d ago            1d ago   a,b\n' +
        'ops   admin,metrics  high      2027-01-01T00:00:00.000Z  1d ago   all\n',
    )
  })
})

describe('keys add', () => {
  it('prints the secret and nothing else on standard output', async () => {
    api.on('POST /api/keys', give({ secret, key: ci }, 201))
    const { code, stdout, stderr } = await berth(['keys', 'add', 'ci'], { url: api.url })
    expect({ code, stdout }).toEqual({ code: 0, stdout: `${secret}\n` })
    expect(stderr).toMatch(/^ci: made \(infer\).*only now/)
    expect(api.requests.at(-1)?.body).toEqual({ name: 'ci' })
    const asJson = await berth(['keys', 'add', 'ci', '--json'], { url: api.url })
    expect([JSON.parse(asJson.stdout), asJson.stderr]).toEqual([{ secret, key: ci }, ''])
  })

  it('asks for what its options say', async () => {
    api.on('POST /api/keys', give({ secret, key: ci }, 201))
    const before = Date.now()
    const args = ['-m', 'a', '-m', 'b', '-s', 'infer', '--scope', 'metrics', '-p', 'low', '--expires', '1d12h']
    await berth(['keys', 'add', 'ci', ...args], { url: api.url })
    const { expiresAt, ...rest } = (api.requests.at(-1)?.body ?? {}) as { expiresAt: string }
    expect(rest).toEqual({ name: 'ci', models: ['a', 'b'], scopes: ['infer', 'metrics'], priority: 'low' })
    const inMs = Date.parse(expiresAt) - 36 * 3_600_000
    expect(inMs).toBeGreaterThanOrEqual(before)
    expect(inMs).toBeLessThanOrEqual(Date.now())
    await berth(['keys', 'add', 'ci', '--expires', '2030-01-31T12:00:00+01:00'], { url: api.url })
    expect(api.requests.at(-1)?.body).toEqual({ name: 'ci', expiresAt: '2030-01-31T12:00:00+01:00' })
  })

  it.each([
    [],
    ['ci', '--scope', 'root'],
    ['ci', '--priority', 'urgent'],
    ['ci', '--expires', 'soon'],
    ['ci', '--expires', 'none'],
    ['ci', '--expires', '0s'],
  ])('asks for nothing and exits with 2 for %s %s %s', async (...args) => {
    const before = api.requests.length
    const { code, stdout } = await berth(['keys', 'add', ...args], { url: api.url })
    expect({ code, stdout, asked: api.requests.length - before }).toEqual({ code: 2, stdout: '', asked: 0 })
  })
})

describe('keys remove', () => {
  it('removes one', async () => {
    api.on('DELETE /api/keys/ci', (response) => response.writeHead(204).end())
    const { code, stdout, stderr } = await berth(['keys', 'remove', 'ci'], { url: api.url })
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: 'ci: removed\n' })
    expect(JSON.parse((await berth(['keys', 'remove', 'ci', '--json'], { url: api.url })).stdout)).toEqual({
      removed: 'ci',
    })
  })

  it('fails with what Berth says', async () => {
    api.on(
      'DELETE /api/keys/admin',
      refuse(403, {
        code: 'FORBIDDEN',
        message: 'It is the last one.',
        details: { remedy: 'Make another one first.' },
      }),
    )
    const { code, stderr } = await berth(['keys', 'remove', 'admin'], { url: api.url })
    expect(code).toBe(1)
    expect(stderr).toBe('berth: It is the last one.\n  code: FORBIDDEN\n  Make another one first.\n')
  })
})
