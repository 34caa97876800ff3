import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatEvent } from '../../../orchestrator/cli/commands/events.ts'
import type { BerthEvent } from '../../../orchestrator/domain/views.ts'
import { berth } from './command.ts'
import { type FakeApi, startFakeApi, stream } from './fake-api.ts'

const event: BerthEvent = {
  id: 7,
  time: '2026-01-31T12:00:00.123Z',
  type: 'replica',
  module: 'ocr',
  replica: 'ocr-0',
  from: 'starting',
  to: 'idle',
  cause: 'its runner answers',
}
let api: FakeApi
beforeAll(async () => {
  api = await startFakeApi()
})
afterAll(() => api.close())

describe('events', () => {
  it('are a line each, as JSON with --json', async () => {
    api.on('GET /api/events', stream(event, { id: 8, time: event.time, type: 'engine', to: 'lost', cause: 'gone' }))
    const plain = await berth(['events'], { url: api.url, env: { TZ: 'UTC' } })
    expect(plain.stdout).toBe(
      '2026-01-31 12:00:00.123 replica ocr-0 starting -> idle: its runner answers\n2026-01-31 12:00:00.123 engine lost: gone\n',
    )
    expect(api.requests.at(-1)?.query).toBe('?follow=false&tail=100')
    expect(api.requests.at(-1)?.headers.accept).toBe('application/x-ndjson')
    const json = await berth(['events', '--json', '--module', 'two words', '-n', '5'], { url: api.url })
    expect(JSON.parse(json.stdout.split('\n')[0] ?? '')).toEqual(event)
    expect(api.requests.at(-1)?.query).toBe('?follow=false&module=two+words&tail=5')
  })

  it('are followed over a restart of the orchestrator, which is said', async () => {
    const queries: string[] = []
    api.on('GET /api/events', (response, { query }) => {
      queries.push(query)
      response.writeHead(queries.length === 3 ? 401 : 200)
      if (queries.length === 3) {
        response.end('{"error":{"code":"UNAUTHORIZED","message":"No key."}}')
        return
      }
      response.write(`${JSON.stringify({ ...event, id: queries.length })}\n`, () => response.destroy())
    })
    const { code, stdout, stderr } = await berth(['events', '--follow'], { url: api.url })
    expect(stdout.split('\n').filter(Boolean)).toHaveLength(2)
    expect(queries).toEqual(['?follow=true&tail=100', '?follow=true&after=1', '?follow=true&after=2'])
    expect(stderr.match(/waits for it to come back/g)).toHaveLength(2)
    expect(code).toBe(1)
  })

  it.each([
    [event, undefined, ' replica ocr-0 starting -> idle: its runner answers'],
    [{ ...event, to: 'failed' }, '31', ' replica ocr-0 starting -> failed: its runner answers'],
    [{ id: 1, time: event.time, type: 'missed', cause: 'gone' }, '33', ' missed: gone'],
  ])('%o is colored where it needs attention', (each, color, expected) => {
    expect(formatEvent(each, false)).toMatch(/^2026-01-3\d \d\d:\d\d:00\.123 /)
    expect(formatEvent(each, false).slice(23)).toBe(expected)
    const colored =
      color === undefined ? formatEvent(each, false) : `\u001b[${color}m${formatEvent(each, false)}\u001b[0m`
    expect(formatEvent(each, true)).toBe(colored)
  })
})
