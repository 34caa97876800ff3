import { describe, expect, it } from 'vitest'
import { createEvents, type Events } from '../../../orchestrator/telemetry/events.ts'

const clock = (now: number) => ({ now: () => now, schedule: () => () => undefined })

async function take(events: Events, count: number, after?: number): Promise<string[]> {
  const found: string[] = []
  if (count === 0) return found
  const signal = new AbortController().signal
  for await (const event of events.subscribe({ signal, ...(after === undefined ? {} : { after }) })) {
    found.push(event.cause)
    if (found.length === count) break
  }
  return found
}

describe('events', () => {
  it('have ids that count up, also over a restart', () => {
    const before = createEvents(clock(1_000_000))
    const first = before.publish({ type: 'state', cause: 'one' })
    const second = before.publish({ type: 'state', cause: 'two' })
    const later = createEvents(clock(2_000_000)).publish({ type: 'state', cause: 'three' })
    expect(second.id).toBe(first.id + 1)
    expect(later.id).toBeGreaterThan(second.id)
    expect(first.time).toBe('1970-01-01T00:16:40.000Z')
  })

  it('of before a subscription are not in it, unless it resumes', async () => {
    const events = createEvents(clock(1_000))
    const { id } = events.publish({ type: 'state', cause: 'one' })
    events.publish({ type: 'state', cause: 'two' })
    const taken = take(events, 1)
    events.publish({ type: 'state', cause: 'three' })
    expect(await taken).toEqual(['three'])
    expect(await take(events, 2, id)).toEqual(['two', 'three'])
    expect(await take(events, 3, 0)).toEqual(['one', 'two', 'three'])
  })

  it('published between subscribing and reading are not lost', async () => {
    const events = createEvents(clock(1_000))
    const reading = events.subscribe({ signal: new AbortController().signal })[Symbol.asyncIterator]()
    events.publish({ type: 'state', cause: 'one' })
    expect((await reading.next()).value).toMatchObject({ cause: 'one' })
  })

  it('an id from the future resumes with what comes next', async () => {
    const events = createEvents(clock(1_000))
    const taken = take(events, 1, 9e15)
    events.publish({ type: 'state', cause: 'next' })
    expect(await taken).toEqual(['next'])
  })

  it('keep the last 1,000; a slow subscriber goes on with the oldest of them', async () => {
    const events = createEvents(clock(1_000))
    const reading = events.subscribe({ signal: new AbortController().signal })[Symbol.asyncIterator]()
    for (let count = 0; count < 1_500; count += 1) events.publish({ type: 'state', cause: String(count) })
    expect(events.recent()).toHaveLength(1_000)
    expect((await reading.next()).value).toMatchObject({ cause: '500' })
  })

  it('end for a subscriber whose signal aborts', async () => {
    const events = createEvents(clock(1_000))
    const stop = new AbortController()
    const reading = events.subscribe({ signal: stop.signal })[Symbol.asyncIterator]()
    const next = reading.next()
    stop.abort()
    expect(await next).toEqual({ done: true, value: undefined })
  })
})
