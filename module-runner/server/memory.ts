import { setFlagsFromString } from 'node:v8'

/**
 * Keeps an idle runner small and a busy one fast. It starts without V8's optimising compilers (`runnerNodeFlags`); the first
 * traffic switches them on, and memory that a start or a busy time has left behind is given back once it is quiet.
 */
export interface MemoryCare {
  /** An inference has begun. */
  used(): void
  close(): void
}

const usesUntilFast = 20
const quietMs = 10_000

export function startMemoryCare(): MemoryCare {
  let uses = 0
  let usedSince = true
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
      if (uses !== usesUntilFast) return
      setFlagsFromString('--opt')
      setFlagsFromString('--maglev')
    },
    close: () => clearInterval(timer),
  }
}

/** There is a collector to call only when the runner was started with its flags. */
export function collect(): void {
  const { gc } = globalThis as { gc?: (options: object) => void }
  gc?.({ type: 'major', flavor: 'last-resort', execution: 'sync' })
}
