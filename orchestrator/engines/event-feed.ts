import type { WorkloadEvent } from './engine.ts'

/** Hints for any number of watchers. A watcher that does not read holds at most one `resync` and a few events. */
export class EventFeed {
  readonly #watchers = new Set<(event: WorkloadEvent) => void>()

  emit(event: WorkloadEvent): void {
    for (const watcher of this.#watchers) watcher(event)
  }

  /** Begins with `resync`; ends when the signal aborts. */
  async *watch(signal: AbortSignal): AsyncIterable<WorkloadEvent> {
    let pending: WorkloadEvent[] = [{ kind: 'resync' }]
    let wake: (() => void) | undefined
    const watcher = (event: WorkloadEvent): void => {
      pending = pending.length < 64 ? [...pending, event] : [{ kind: 'resync' }]
      wake?.()
    }
    const onAbort = (): void => wake?.()
    this.#watchers.add(watcher)
    signal.addEventListener('abort', onAbort)
    try {
      while (!signal.aborted) {
        const events = pending
        pending = []
        for (const event of events) {
          if (signal.aborted) return
          yield event
        }
        if (pending.length > 0 || signal.aborted) continue
        await new Promise<void>((resolve) => {
          wake = resolve
        })
        wake = undefined
      }
    } finally {
      this.#watchers.delete(watcher)
      signal.removeEventListener('abort', onAbort)
    }
  }
}
