import { describe, expect, it } from 'vitest'
import { createEvents, type Events, type Subscription } from '../../../orchestrator/telemetry/events.ts'

const clock = (now: number) => ({ now: () => now, schedule: () => () => undefined })
const never = new AbortController().signal

async function take(events: Events, count: number, options: Partial<Subscription> = {}): Promise<string[]> {
  const found: string[] = []
  for await (const event of events.subscribe({ signal: never, ...options })) {
    found.push(event.type === 'missed' ? 'missed' : event.cause)
    if (found.length === count) break
  }
  return found
}

/** What is kept, to its end. */
const kept = (events: Events, options: Partial<Subscription>) => take(events, 1e9, { follow: false, ...options })

function published(causes: readonly string[], now = 1_000): Events {
  const events = createEvents(clock(now))
  for (const cause of causes) events.publish({ type: 'state', module: cause.split(' ')[0] ?? '', cause })
  return events
}

const numbered = (from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, index) => String(from + index))

describe('events', () => {
  it('have ids that count up, also over a restart', () => {
    const before = createEvents(clock(1_000_000))
    const first = before.publish({ type: 'state', cause: 'one' })
    const second = before.publish({ type: 'state', cause: 'two' })
    const later = createEvents(clock(1_000_001)).publish({ type: 'state', cause: 'three' })
    expect(second.id).toBe(first.id + 1)
    expect(later.id).toBeGreaterThan(second.id)
    expect(Number.isSafeInteger(createEvents(clock(Date.parse('2200-01-01'))).publish(second).id)).toBe(true)
    expect(first.time).toBe('1970-01-01T00:16:40.000Z')
  })

  it('of before a subscription are not in it, unless it resumes', async () => {
    const events = published(['one', 'two'])
    const taken = take(events, 1)
    events.publish({ type: 'state', cause: 'three' })
    expect(await taken).toEqual(['three'])
    expect(await take(events, 2, { after: events.recent()[0]?.id ?? 0 })).toEqual(['two', 'three'])
    expect(await take(events, 3, { after: 0 })).toEqual(['one', 'two', 'three'])
  })

  it('published between subscribing and reading are not lost', async () => {
    const events = createEvents(clock(1_000))
    const reading = events.subscribe({ signal: never })[Symbol.asyncIterator]()
    events.publish({ type: 'state', cause: 'one' })
    expect((await reading.next()).value).toMatchObject({ cause: 'one' })
  })

  it('that are kept end where the caller does not follow', async () => {
    expect(await kept(published(['one', 'two']), { after: 0 })).toEqual(['one', 'two'])
    expect(await kept(published([]), { after: 0 })).toEqual([])
  })

  it.each([
    [0, []],
    [2, ['b 4', 'a 5']],
    [9, ['a 1', 'a 2', 'b 3', 'b 4', 'a 5']],
  ])('tail=%i begins with the last kept', async (tail, expected) => {
    expect(await kept(published(['a 1', 'a 2', 'b 3', 'b 4', 'a 5']), { tail })).toEqual(expected)
  })

  it('of one module only, when asked for', async () => {
    const events = published(['a 1', 'b 2', 'a 3', 'b 4'])
    expect(await kept(events, { after: 0, module: 'a' })).toEqual(['a 1', 'a 3'])
    expect(await kept(events, { tail: 1, module: 'a' })).toEqual(['a 3'])
    expect(await kept(events, { tail: 3, module: 'nobody' })).toEqual([])
  })

  it('say that some were missed when those to resume from are no longer kept, then go on with the oldest', async () => {
    const events = published(numbered(0, 5_003))
    const first = (events.recent()[0]?.id ?? 0) - 3
    expect(await take(events, 3, { after: first })).toEqual(['missed', '3', '4'])
    expect(await take(events, 2, { after: first + 2 })).toEqual(['3', '4'])
    expect(await take(events, 2, { after: 0 })).toEqual(['3', '4'])
  })

  it('a client that was told so resumes from there without being told again', async () => {
    const events = published(numbered(0, 5_003))
    for await (const event of events.subscribe({ after: (events.recent()[0]?.id ?? 0) - 2, signal: never })) {
      expect(event).toMatchObject({ type: 'missed', cause: expect.stringContaining('1 events') })
      expect(await take(events, 1, { after: event.id })).toEqual(['3'])
      break
    }
  })

  it('an id of an earlier run, or of a clock that was set back since, means that some were missed', async () => {
    const before = published(['old'], 1_000)
    const after = before.recent()[0]?.id ?? 0
    expect(await kept(published(['new'], 2_000), { after })).toEqual(['missed', 'new'])
    expect(await kept(published(['new'], 500), { after })).toEqual(['missed', 'new'])
    expect(await kept(published([], 2_000), { after })).toEqual(['missed'])
    expect(await kept(published(['new'], 2_000), { after, module: 'old' })).toEqual(['missed'])
  })

  it('are bounded; a subscriber that reads slowly is told what it has missed', async () => {
    const events = createEvents(clock(1_000))
    const reading = events.subscribe({ signal: never })[Symbol.asyncIterator]()
    for (const cause of numbered(0, 6_000)) events.publish({ type: 'state', cause })
    expect(events.recent()).toHaveLength(5_000)
    expect((await reading.next()).value).toMatchObject({ type: 'missed' })
    expect((await reading.next()).value).toMatchObject({ cause: '1000' })
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
