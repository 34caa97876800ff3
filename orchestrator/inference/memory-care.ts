import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/** V8 itself lets some 64 MB of dead buffers pile up before it looks for them. */
const relayedUntilCollected = 8 * 1024 * 1024

/**
 * Keeps the memory of long streams down: told of the bytes that were handed on, it has their buffers, which are garbage
 * by then, cleared away every few mebibytes. That takes well under a millisecond.
 */
export function createMemoryCare(): (bytes: number) => void {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('globalThis.gc') as (options: { type: 'minor'; execution: 'sync' }) => void
  let relayed = 0
  return (bytes) => {
    relayed += bytes
    if (relayed < relayedUntilCollected) return
    relayed = 0
    collect({ type: 'minor', execution: 'sync' })
  }
}
