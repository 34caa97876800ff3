import type { Clock } from '../domain/clock.ts'
import type { BerthEvent } from '../domain/views.ts'

/** The last state changes with their causes, and those to come. */
export interface Events {
  publish(event: Omit<BerthEvent, 'id' | 'time'>): BerthEvent
  /** Those kept, oldest first: at most 1,000. */
  recent(): readonly BerthEvent[]
  /**
   * Events after the id `after` (those still kept, then new ones); without it, only those published after this call.
   * Ends when the signal aborts. A subscriber that reads slowly misses the oldest; it never holds up a publisher.
   */
  subscribe(options: { readonly after?: number; readonly signal: AbortSignal }): AsyncIterable<BerthEvent>
}

const capacity = 1_000

/** Ids begin at the time of the start and count up, so that an id of an earlier run is still before every new one. */
export function createEvents(clock: Clock): Events {
  const ring: BerthEvent[] = []
  const waiting = new Set<() => void>()
  let lastId = clock.now()

  const next = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const wake = (): void => {
        waiting.delete(wake)
        signal.removeEventListener('abort', wake)
        resolve()
      }
      waiting.add(wake)
      signal.addEventListener('abort', wake)
    })

  async function* read(from: number, signal: AbortSignal): AsyncGenerator<BerthEvent, void> {
    let seen = from
    while (!signal.aborted) {
      const oldest = lastId - ring.length + 1
      const event = ring[Math.max(seen + 1, oldest) - oldest]
      if (event === undefined) {
        await next(signal)
      } else {
        seen = event.id
        yield event
      }
    }
  }

  return {
    publish(change) {
      lastId += 1
      const event: BerthEvent = { id: lastId, time: new Date(clock.now()).toISOString(), ...change }
      ring.push(event)
      if (ring.length > capacity) ring.shift()
      for (const wake of [...waiting]) wake()
      return event
    },
    recent: () => [...ring],
    subscribe: ({ after, signal }) => read(Math.min(after ?? lastId, lastId), signal),
  }
}
