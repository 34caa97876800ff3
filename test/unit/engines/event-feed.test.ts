import { describe, expect, it } from 'vitest'
import type { WorkloadEvent } from '../../../orchestrator/engines/engine.ts'
import { EventFeed } from '../../../orchestrator/engines/event-feed.ts'

const changed = (id: string): WorkloadEvent => ({ kind: 'changed', id })

describe('the event feed', () => {
  it('tells every watcher, beginning with a resync', async () => {
    const feed = new EventFeed()
    const controller = new AbortController()
    const watchers = [feed.watch(controller.signal), feed.watch(controller.signal)].map((each) =>
      each[Symbol.asyncIterator](),
    )
    for (const watcher of watchers) expect((await watcher.next()).value).toEqual({ kind: 'resync' })
    feed.emit(changed('a'))
    for (const watcher of watchers) expect((await watcher.next()).value).toEqual(changed('a'))
    controller.abort()
    for (const watcher of watchers) expect((await watcher.next()).done).toBe(true)
  })

  it('holds a bounded number of events for a watcher that does not read, and then says resync', async () => {
    const feed = new EventFeed()
    const controller = new AbortController()
    const watcher = feed.watch(controller.signal)[Symbol.asyncIterator]()
    await watcher.next()
    for (let event = 0; event < 1_000; event += 1) feed.emit(changed(String(event)))
    const seen: WorkloadEvent[] = []
    while (!seen.some((event) => event.kind === 'changed' && event.id === '999'))
      seen.push((await watcher.next()).value)
    expect(seen.length).toBeLessThanOrEqual(65)
    expect(seen).toContainEqual({ kind: 'resync' })
    controller.abort()
  })
})
