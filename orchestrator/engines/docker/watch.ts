import { setTimeout as delay } from 'node:timers/promises'
import type { WorkloadEvent } from '../engine.ts'
import { labels } from '../labels.ts'
import type { Daemon } from './daemon.ts'
import { isForeign } from './foreign.ts'
import { jsonLines } from './json-lines.ts'

/** Hints from the daemon's event stream. It may break, and it may die without a word: then everything may have changed. */
export interface WatchOptions {
  readonly daemon: Daemon
  readonly instance: string
  /** A stream that is silent so long is opened anew, with a `resync`, milliseconds. */
  readonly silenceMs: number
  readonly warn: (message: string) => void
}

const interesting = ['create', 'start', 'die', 'oom', 'destroy', 'pause', 'unpause']
const longestPause = 10_000

/** Begins with `resync`, which also follows whenever events may have been missed. Ends when the signal aborts. */
export async function* watchWorkloads(options: WatchOptions, signal: AbortSignal): AsyncIterable<WorkloadEvent> {
  let pauseMs = 250
  let told = false
  while (!signal.aborted) {
    const round = new AbortController()
    const onAbort = (): void => round.abort()
    signal.addEventListener('abort', onAbort, { once: true })
    let timer = setTimeout(() => round.abort(), options.silenceMs)
    try {
      const stream = await options.daemon.events({ type: ['container'], event: interesting }, round.signal)
      told = true
      pauseMs = 250
      yield { kind: 'resync' }
      for await (const event of jsonLines(stream)) {
        clearTimeout(timer)
        timer = setTimeout(() => round.abort(), options.silenceMs)
        if (signal.aborted) return
        if (!concerns(event, options.instance)) continue
        const id = idOf(event)
        yield id === undefined ? { kind: 'resync' } : { kind: 'changed', id }
      }
      throw new Error('it ended')
    } catch (error) {
      if (signal.aborted) return
      if (!round.signal.aborted) {
        options.warn(`the event stream of Docker broke: ${error instanceof Error ? error.message : String(error)}`)
        if (!told) {
          told = true
          yield { kind: 'resync' }
        }
        await delay(pauseMs, undefined, { signal }).catch(() => undefined)
        pauseMs = Math.min(pauseMs * 2, longestPause)
      }
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      round.abort()
    }
  }
}

/** The daemon could pick by label only what is ours or what is somebody else's, not both in one stream. */
function concerns(event: Record<string, unknown>, instance: string): boolean {
  const { Attributes: marks } = (event.Actor ?? {}) as { readonly Attributes?: Readonly<Record<string, string>> }
  if (marks === undefined) return true
  const ours = marks[labels.instance] === instance && marks[labels.role] === 'workload'
  return ours || isForeign(marks, instance)
}

/** An event may come without an id. */
function idOf(event: Record<string, unknown>): string | undefined {
  const actor = event.Actor as { readonly ID?: unknown } | undefined
  const id = actor?.ID ?? event.id
  return typeof id === 'string' && id !== '' ? id : undefined
}
