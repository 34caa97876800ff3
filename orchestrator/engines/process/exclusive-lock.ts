import { DatabaseSync } from 'node:sqlite'
import { setTimeout as delay } from 'node:timers/promises'

/**
 * A lock between processes on one machine that the kernel gives back when its holder dies, however it dies: the file
 * lock under an empty SQLite database. (Node has no flock; a file with a process id in it can be stale.)
 * Resolves with the function that gives it back; rejects with `signal.reason` when the signal aborts first.
 */
export async function lockFile(path: string, signal: AbortSignal): Promise<() => void> {
  for (;;) {
    signal.throwIfAborted()
    const release = tryLock(path)
    if (release !== undefined) return release
    await delay(100, undefined, { signal }).catch(() => undefined)
  }
}

/** The same without waiting: undefined while somebody else holds it. */
export function tryLock(path: string): (() => void) | undefined {
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    // Nothing is ever written: a journal would only be left behind by a kill.
    database.exec('PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (isBusy(error)) return undefined
    throw error
  }
  return () => database.close()
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && 'errcode' in error && (error.errcode === 5 || error.errcode === 6)
}
