import { setTimeout as delay } from 'node:timers/promises'
import { BerthError } from '../domain/errors.ts'
import { isJsonObject } from '../domain/json.ts'
import { frameError } from './client.ts'
import type { Context } from './context.ts'
import { BrokenConnectionError, UnreachableError } from './failures.ts'

export interface FollowOptions {
  /** What to ask for; `after` is the id of the last record that came, so that none comes twice or is left out. */
  readonly path: (after: number | undefined) => string
  /** False: what is there now, without coming back when the connection breaks. */
  readonly follow: boolean
}

const pauseMs = { first: 200, longest: 2_000 }
/** An orchestrator that is away for longer is not waited for. */
const patienceMs = 120_000

/** Records of a stream, over broken connections and restarts of the orchestrator. */
export async function* records(context: Context, { path, follow }: FollowOptions): AsyncGenerator<unknown, void> {
  const { api, out, signal } = context
  let after: number | undefined
  let connected = false
  let lostAt: number | undefined
  for (let pause = pauseMs.first; ; pause = Math.min(pauseMs.longest, pause * 2)) {
    let reason: unknown
    try {
      const lines = await api.lines('GET', path(after), { signal })
      if (lostAt !== undefined) out.note(`berth: connected to ${api.url} again`)
      connected = true
      lostAt = undefined
      pause = pauseMs.first
      for await (const record of lines) {
        if (isJsonObject(record) && isJsonObject(record.error)) throw frameError(record.error)
        if (isJsonObject(record) && typeof record.id === 'number') after = record.id
        yield record
        signal.throwIfAborted()
      }
      if (!follow) return
    } catch (error) {
      signal.throwIfAborted()
      if (!follow || !connected || !passes(error)) throw error
      reason = error
    }
    if (lostAt === undefined) out.note(`berth: ${api.url} has closed the connection; waits for it to come back`)
    lostAt ??= performance.now()
    if (performance.now() - lostAt > patienceMs) throw reason
    await delay(pause, undefined, { signal })
  }
}

/** What a restart of the orchestrator looks like from outside. */
function passes(error: unknown): boolean {
  if (error instanceof BerthError) return error.retryable
  return error instanceof UnreachableError || error instanceof BrokenConnectionError
}
