import { once } from 'node:events'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatRecord } from '../../../orchestrator/cli/commands/logs.ts'
import { berth, finished, start } from './command.ts'
import { type FakeApi, type FakeRequest, refuse, startFakeApi, stream } from './fake-api.ts'

const record = { time: '2026-01-31T12:00:00.123Z', level: 'info', source: 'module', message: 'loaded' } as const
const none: FakeRequest = { call: '', query: '', body: undefined, headers: {} }
let api: FakeApi
beforeAll(async () => {
  api = await startFakeApi()
})
afterAll(() => api.close())

describe('logs', () => {
  it('prints a line a record, as JSON with --json', async () => {
    api.on('GET /api/modules/m/logs', stream(record, { ...record, level: 'error', source: 'installer', message: 'no' }))
    const plain = await berth(['logs', 'm', '-n', '7'], { url: api.url, env: { TZ: 'UTC' } })
    expect(plain.stdout).toBe(
      '2026-01-31 12:00:00.123 module       info     loaded\n2026-01-31 12:00:00.123 installer    error    no\n',
    )
    expect(api.requests.at(-1)?.query).toBe('?tail=7')
    const json = await berth(['logs', 'm', '--json'], { url: api.url })
    expect(
      json.stdout
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line)),
    ).toHaveLength(2)
    expect(api.requests.at(-1)?.query).toBe('?tail=100')
  })

  it('ends quietly when its reader has enough', async () => {
    const closed = Promise.withResolvers<void>()
    api.on('GET /api/modules/m/logs', (response) => {
      response.writeHead(200)
      const lines = setInterval(() => response.write(`${JSON.stringify(record)}\n`), 5)
      response.on('close', () => {
        clearInterval(lines)
        closed.resolve()
      })
    })
    const child = start(['logs', '-f', 'm'], { url: api.url })
    await once(child.stdout, 'data')
    child.stdout.destroy()
    await closed.promise
    const code = child.exitCode ?? (await once(child, 'exit'))[0]
    expect(code).toBe(0)
  })

  it('colors what needs attention on a terminal only', () => {
    const colored = formatRecord({ ...record, level: 'error' }, true)
    expect([colored.slice(0, 5), colored.slice(-4)]).toEqual(['\u001b[31m', '\u001b[0m'])
    expect(formatRecord({ ...record, level: 'error' }, false)).not.toContain('\u001b')
  })

  it('goes on after the last line when the connection breaks, without a line twice or lost', async () => {
    const queries: string[] = []
    api.on('GET /api/modules/m/logs', (response, { query }) => {
      queries.push(query)
      const after = Number(new URLSearchParams(query).get('after') ?? 0)
      if (after === 4)
        return refuse(404, { code: 'MODULE_NOT_FOUND', message: 'There is no module m.' })(response, none)
      response.writeHead(200)
      for (const id of [after + 1, after + 2])
        response.write(`${JSON.stringify({ ...record, id, message: `line ${id}` })}\n`)
      // Once in the middle of everything, once in good order: a crash and a shutdown.
      if (after === 0) setTimeout(() => response.destroy(), 20)
      else response.end()
    })
    const { code, stdout, stderr } = await finished(start(['logs', '-f', 'm'], { url: api.url }))
    expect(stdout.match(/line \d/g)).toEqual(['line 1', 'line 2', 'line 3', 'line 4'])
    expect(queries).toEqual(['?tail=100&follow=true', '?after=2&follow=true', '?after=4&follow=true'])
    expect(stderr).toContain('waits for it to come back')
    expect(code).toBe(1)
  })

  it('of an orchestrator that was never there ends at once', async () => {
    const { code, stderr } = await berth(['logs', '-f', 'm'], { url: 'http://127.0.0.1:9' })
    expect(code).toBe(1)
    expect(stderr).toContain('no orchestrator answers')
  })
})
