import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { BerthEvent } from '../../orchestrator/domain/views.ts'
import { plainModule } from '../support/engines.ts'
import { type EventReader, openEvents } from '../support/event-stream.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** Every change of state with its cause, over real HTTP, as a client sees it that stays, leaves and comes back. */
describe('events', () => {
  let berth: TestBerth
  let stream: EventReader

  beforeAll(async () => {
    berth = await startBerth({
      engine: 'process',
      modules: { plain: { ...plainModule } },
      config: 'models:\n  plain: { module: plain }\n',
    })
    stream = await openEvents(`${berth.url}/api/events?after=0`)
  })
  afterAll(async () => {
    await stream?.leave()
    await berth?.close()
  })

  async function seen(expected: Partial<BerthEvent>): Promise<BerthEvent> {
    const matches = (event: BerthEvent) =>
      Object.entries(expected).every(([key, value]) => event[key as keyof BerthEvent] === value)
    await waitFor(
      30_000,
      () => `${JSON.stringify(expected)} among ${stream.events.map((event) => JSON.stringify(event)).join('\n')}`,
      async () => stream.events.some(matches),
    )
    return stream.events.findLast(matches) as BerthEvent
  }

  const kept = async (query = '', after: string | number = 0): Promise<BerthEvent[]> => {
    const answer = await berth.request('GET', `/api/events?after=${after}&follow=false${query}`, undefined, {
      headers: { accept: 'application/x-ndjson' },
    })
    return (await answer.text())
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line) as BerthEvent)
  }

  it('tell of the start, the engine and the modules that are there', async () => {
    await seen({ type: 'orchestrator', to: 'started' })
    await seen({ type: 'engine', to: 'reachable' })
    await seen({ type: 'module', module: 'plain', to: 'added' })
  })

  it('tell of every move of a replica, each from where the one before led, each with its cause', async () => {
    await berth.infer('plain')
    await berth.json('POST', '/api/modules/plain/restart?wait=true')
    await berth.infer('plain')
    await berth.json('POST', '/api/modules/plain/disable?wait=true')
    await seen({ type: 'module', module: 'plain', from: 'enabled', to: 'disabled' })
    await seen({ type: 'replica', from: 'stopping', to: 'absent' })
    await berth.json('POST', '/api/modules/plain/enable?wait=true')
    await seen({ type: 'module', module: 'plain', from: 'disabled', to: 'enabled' })
    await seen({ type: 'environment', module: 'plain', to: 'ready' })
    const moves = stream.events.filter(({ type }) => type === 'replica')
    const state = new Map<string, string>()
    for (const { replica = '', from, to = '', cause, module } of moves) {
      expect(from).toBe(state.get(replica) ?? 'absent')
      expect(cause).not.toBe('')
      expect(module).toBe('plain')
      state.set(replica, to)
    }
    expect(moves.map(({ to }) => to)).toEqual(expect.arrayContaining(['starting', 'idle', 'loading', 'ready']))
  })

  it('tell of modules that come, break, are mended and go, and of the configuration', async () => {
    await berth.writeModule('other', { ...plainModule })
    await seen({ type: 'module', module: 'other', to: 'added' })
    await writeFile(join(berth.modulesFolder, 'other', 'module.yaml'), 'no_such_key: 1\n')
    expect((await seen({ type: 'module', module: 'other', to: 'broken' })).cause).toContain('no_such_key')
    await writeFile(join(berth.modulesFolder, 'other', 'module.yaml'), 'description: better\n')
    await seen({ type: 'module', module: 'other', to: 'mended' })
    await rm(join(berth.modulesFolder, 'other'), { recursive: true })
    await seen({ type: 'module', module: 'other', to: 'removed' })
    await writeFile(join(berth.folder, 'berth.yaml'), 'modles: {}\n')
    expect((await seen({ type: 'configuration', to: 'refused' })).cause).toContain('modles')
    await writeFile(join(berth.folder, 'berth.yaml'), 'models:\n  plain: { module: plain, load_seconds: 0.1 }\n')
    await seen({ type: 'configuration', to: 'applied' })
    await seen({ type: 'module', module: 'plain', to: 'changed' })
  })

  it('resume where the connection broke, none twice, none lost', async () => {
    const parts: BerthEvent[] = []
    const first = await kept()
    const from = String(first.at(-1)?.id)
    let reader = await openEvents(`${berth.url}/api/events`, from)
    for (let round = 0; round < 6; round += 1) {
      const restarted = berth.json('POST', '/api/modules/plain/restart?wait=true')
      await waitFor(30_000, 'something comes', async () => reader.events.length > 0)
      await reader.leave()
      await restarted
      parts.push(...reader.events)
      reader = await openEvents(`${berth.url}/api/events`, reader.lastId ?? from)
    }
    const all = (await kept()).slice(first.length)
    await waitFor(30_000, 'all have come', async () => parts.length + reader.events.length >= all.length)
    await reader.leave()
    expect([...parts, ...reader.events].slice(0, all.length)).toEqual(all)
  })

  it('of one module only', async () => {
    const only = await kept('&module=plain')
    expect(only.length).toBeGreaterThan(0)
    expect(only).toEqual((await kept()).filter(({ module }) => module === 'plain'))
  })

  it('end with the shutdown and its cause; after the restart a client is told what it can no longer get', async () => {
    const last = await berth.stop()
    await stream.ended
    expect(stream.events.filter(({ type }) => type === 'orchestrator').map(({ to }) => to)).toEqual([
      'started',
      'stopping',
    ])
    expect(last).toBe(0)
    await berth.restart()
    const again = await openEvents(`${berth.url}/api/events`, stream.lastId)
    await waitFor(30_000, 'the new run', async () => again.events.some(({ to }) => to === 'started'))
    await again.leave()
    expect(again.events[0]).toMatchObject({ type: 'missed', cause: expect.stringContaining('earlier run') })
    expect(again.events[1]).toMatchObject({ type: 'orchestrator', to: 'started' })
    expect(again.events[1]?.id).toBeGreaterThan(Number(stream.lastId))
    expect((await kept('', again.lastId)).filter(({ type }) => type === 'missed')).toEqual([])
  })
})
