import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'
import { berth as command } from '../unit/cli/command.ts'

/** Answers who it was told that asks. */
const teller = {
  'service.py': `
def SERVICE_LOAD_MODELS(Models): pass
def SERVICE_OFFLOAD_MODELS(Models): pass
def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": repr(UserParameters["key_info"])}
`,
}

/** Fails after its first word. */
const failing = {
  'service.py': `
def SERVICE_LOAD_MODELS(Models): pass
def SERVICE_OFFLOAD_MODELS(Models): pass
def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": "so far"}
    raise ValueError("the reason")
`,
}

let berth: TestBerth
let admin: string

/** The command, as somebody with this key would run it. */
const as = (key: string) => (args: readonly string[]) => command(args, { url: berth.url, env: { BERTH_KEY: key } })

async function ask(model: string, key: string) {
  const headers = { authorization: `Bearer ${key}` }
  const answer = await berth.request('POST', `/api/models/${model}/infer`, { stream: false }, { headers })
  return { status: answer.status, text: await answer.text() }
}

beforeAll(async () => {
  berth = await startBerth({
    engine: 'process',
    modules: { mine: teller, other: teller, failing },
    env: { BERTH_AUTH: 'keys' },
  })
  admin = (await readFile(join(berth.dataFolder, 'admin.key'), 'utf8')).trim()
})
afterAll(() => berth?.close())

describe('a key that is made for one model', () => {
  let secret: string

  it('is printed once, to be used at once', async () => {
    const made = await as(admin)(['keys', 'add', 'ci', '--model', 'mine', '--priority', 'low', '--expires', '1h'])
    expect(made).toMatchObject({ code: 0, stdout: expect.stringMatching(/^berth_[\w-]{43}\n$/) })
    secret = made.stdout.trim()
    const { stdout } = await as(admin)(['keys'])
    expect(stdout).toMatch(/^ci +infer +low +20\S+Z +0?\d+s ago +mine$/m)
    expect(stdout).not.toContain(secret)
  })

  it('asks that model, which is told its name and never the key', async () => {
    const { status, text } = await ask('mine', secret)
    expect({ status, text }).toEqual({ status: 200, text: expect.stringContaining("'Key': 'ci'") })
    expect(text).not.toContain(secret)
  })

  it('gets no other, sees no other and does nothing else', async () => {
    expect(await ask('other', secret)).toMatchObject({
      status: 403,
      text: expect.stringContaining('may not use model'),
    })
    const { models } = JSON.parse((await as(secret)(['models', '--json'])).stdout)
    expect(models.map(({ name }: { name: string }) => name)).toEqual(['mine'])
    for (const args of [
      ['ps'],
      ['keys'],
      ['keys', 'add', 'more'],
      ['disable', 'mine'],
      ['scale', 'mine=2'],
      ['plan'],
    ]) {
      const { code, stderr } = await as(secret)(args)
      expect([code, stderr], args.join(' ')).toEqual([1, expect.stringContaining('needs the scope admin')])
    }
  })

  it('is good after a restart, and refused as soon as it is removed', async () => {
    await berth.kill()
    await berth.restart()
    expect((await ask('mine', secret)).status).toBe(200)
    expect(await as(admin)(['keys', 'remove', 'ci'])).toMatchObject({ code: 0, stderr: 'ci: removed\n' })
    expect(await ask('mine', secret)).toMatchObject({ status: 401, text: expect.stringContaining('was removed') })
    await berth.kill()
    await berth.restart()
    expect((await ask('mine', secret)).status).toBe(401)
  })

  it('is in no log and no file', async () => {
    expect(berth.log()).toContain('removed the API key ci')
    expect(berth.log()).not.toContain(secret)
    const files = ['berth.db', 'berth.db-wal'].map((name) =>
      readFile(join(berth.dataFolder, name), 'latin1').catch(() => ''),
    )
    for (const content of await Promise.all(files)) expect(content).not.toContain(secret)
  })
})

describe('a traceback', () => {
  it('of a stream that fails reaches admins, and nobody else', async () => {
    const secret = (await as(admin)(['keys', 'add', 'caller', '--model', 'failing'])).stdout.trim()
    const lastLine = async (key: string) => {
      const headers = { authorization: `Bearer ${key}` }
      const answer = await berth.request('POST', '/api/models/failing/infer', {}, { headers })
      return (await answer.text()).trim().split('\n').at(-1) ?? ''
    }
    expect(JSON.parse(await lastLine(admin))).toMatchObject({
      error: { code: 'INFERENCE_FAILED', details: { traceback: expect.stringContaining('service.py') } },
    })
    const shown = await lastLine(secret)
    expect(JSON.parse(shown)).toMatchObject({
      error: {
        code: 'INFERENCE_FAILED',
        message: expect.stringContaining('the reason'),
        details: { module: 'failing' },
      },
    })
    expect(shown).not.toMatch(/traceback|service\.py/i)
    await as(admin)(['keys', 'remove', 'caller'])
  })
})

describe('the admin key', () => {
  it('that was made is in a file, which the log names; the log never has the key', () => {
    expect(berth.log()).toContain(join(berth.dataFolder, 'admin.key'))
    expect(berth.log()).not.toContain(admin)
  })

  it('stays while it is the last one, and when it is removed it stays away', async () => {
    const refused = await as(admin)(['keys', 'remove', 'admin'])
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('berth keys add NAME --scope admin') })
    const ops = (await as(admin)(['keys', 'add', 'ops', '--scope', 'admin'])).stdout.trim()
    expect((await as(ops)(['keys', 'remove', 'admin'])).code).toBe(0)
    expect((await as(admin)(['keys'])).stderr).toContain('UNAUTHORIZED')
    await berth.kill()
    await berth.restart()
    expect((await as(admin)(['keys'])).stderr).toContain('UNAUTHORIZED')
    expect((await as(ops)(['keys', 'remove', 'ops'])).code).toBe(1)
    expect(JSON.parse((await as(ops)(['keys', '--json'])).stdout).keys).toMatchObject([{ name: 'ops' }])
  })
})
