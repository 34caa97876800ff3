import { setFlagsFromString } from 'node:v8'

/**
 * Keeps an idle runner small and a busy one fast. It starts without V8's optimising compilers (`runnerNodeFlags`); the first
 * traffic switches the quicker of them on, a lot of it the better one, which takes a quarter off the processor time of a
 * request and 10 MB for good. Memory that a start or a busy time has left behind is given back once it is quiet.
 */
export interface MemoryCare {
  /** An inference has begun. */
  used(): void
  /** So many bytes have been handed on, and their buffers are garbage. */
  relayed(bytes: number): void
  close(): void
}

const usesUntilFast = 20
const usesUntilFastest = 2_000
/** V8 itself lets 64 MB of dead buffers pile up; clearing the young ones away costs well under a millisecond. */
const relayedUntilCollected = 8 * 1024 * 1024
const quietMs = 10_000

export function startMemoryCare(): MemoryCare {
  let uses = 0
  let usedSince = true
  let relayedBytes = 0
  const timer = setInterval(() => {
    if (usedSince) usedSince = false
    else if (uses !== collectedAt) {
      collectedAt = uses
      collect()
    }
  }, quietMs)
  let collectedAt = -1
  timer.unref()
  return {
    used() {
      usedSince = true
      uses += 1
      if (uses === usesUntilFast) setFlagsFromString('--maglev')
      if (uses === usesUntilFastest) setFlagsFromString('--opt')
    },
    relayed(bytes) {
      relayedBytes += bytes
      if (relayedBytes < relayedUntilCollected) return
      relayedBytes = 0
      runCollector({ type: 'minor' })
    },
    close: () => clearInterval(timer),
  }
}

/** Clears everything away; takes some ten milliseconds. */
export function collect(): void {
  runCollector({ type: 'major', flavor: 'last-resort' })
}

/** There is a collector to call only when the runner was started with its flags. */
function runCollector(options: { readonly type: 'minor' | 'major'; readonly flavor?: 'last-resort' }): void {
  const { gc } = globalThis as { gc?: (options: object) => void }
  gc?.({ ...options, execution: 'sync' })
}
