import type { Clock } from '../domain/clock.ts'
import type { BerthEvent } from '../domain/views.ts'

/** The last state changes with their causes, and those to come. */
export interface Events {
  publish(event: Omit<BerthEvent, 'id' | 'time'>): BerthEvent
  /** Those kept, oldest first: at most 5,000. */
  recent(): readonly BerthEvent[]
  /** Kept ones and those to come, as the options say, until the signal aborts. What follows is as of this call. */
  subscribe(options: Subscription): AsyncIterable<BerthEvent>
}

export interface Subscription {
  /**
   * Begins with the event after this id; 0 with the oldest kept. Without it, with the next to be published. Where events in
   * between are kept no longer, or the id is of another run of Berth, an event of type `missed` comes first.
   */
  readonly after?: number
  /** Begins with so many of the last kept; `after` wins. */
  readonly tail?: number
  /** False: ends with the last kept. */
  readonly follow?: boolean
  /** Only this module's. */
  readonly module?: string
  readonly signal: AbortSignal
}

const capacity = 5_000

/**
 * Ids begin at the microsecond of the start and count up: an id of an earlier run is before every one of this run, as no
 * run publishes a million a second. A subscriber that reads slowly holds nobody up: it is told what it has missed.
 */
export function createEvents(clock: Clock): Events {
  const ring: BerthEvent[] = []
  const waiting = new Set<() => void>()
  const beforeFirst = Math.trunc(clock.now()) * 1_000
  let lastId = beforeFirst

  const time = (): string => new Date(clock.now()).toISOString()
  const beforeOldest = (): number => lastId - ring.length
  const missed = (cause: string): BerthEvent => ({ id: beforeOldest(), time: time(), type: 'missed', cause })

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

  const wanted = (event: BerthEvent, module: string | undefined): boolean =>
    module === undefined || event.module === module

  const beforeTail = (tail: number, module: string | undefined): number => {
    const matching = tail === 0 ? [] : ring.filter((event) => wanted(event, module)).slice(-tail)
    return matching[0] === undefined ? lastId : matching[0].id - 1
  }

  async function* read(from: number, first: BerthEvent | undefined, options: Subscription): AsyncGenerator<BerthEvent> {
    const { signal, module, follow = true } = options
    let seen = from
    if (first !== undefined) yield first
    while (!signal.aborted) {
      if (seen < beforeOldest()) {
        seen = beforeOldest()
        yield missed('this client read too slowly: the events before the next one are no longer kept')
      }
      const event = ring[seen - beforeOldest()]
      if (event === undefined) {
        if (!follow) return
        await next(signal)
      } else {
        seen = event.id
        if (wanted(event, module)) yield event
      }
    }
  }

  return {
    publish(change) {
      lastId += 1
      const event: BerthEvent = { id: lastId, time: time(), ...change }
      ring.push(event)
      if (ring.length > capacity) ring.shift()
      for (const wake of [...waiting]) wake()
      return event
    },
    recent: () => [...ring],
    subscribe(options) {
      const { after, tail, module } = options
      if (after === undefined) return read(tail === undefined ? lastId : beforeTail(tail, module), undefined, options)
      if (after === 0) return read(beforeOldest(), undefined, options)
      if (after < beforeFirst || after > lastId) {
        const why = `event ${after} is of an earlier run of Berth: what happened between its end and this start is not known`
        return read(beforeOldest(), missed(why), options)
      }
      const gone = beforeOldest() - after
      if (gone <= 0) return read(after, undefined, options)
      return read(beforeOldest(), missed(`${gone} events after ${after} are no longer kept`), options)
    },
  }
}
