import type { ApiClient } from './client.ts'
import { UnreachableError } from './failures.ts'

/** A look at an orchestrator gets an answer within this or counts as none. */
const lookMs = 6_000

/** Whether an orchestrator answers. */
export async function isHealthy(api: ApiClient, signal: AbortSignal): Promise<boolean> {
  try {
    const answer = await api.json<{ status?: unknown }>('GET', '/healthz', { signal: bounded(signal) })
    return answer?.status === 'ok'
  } catch {
    signal.throwIfAborted()
    return false
  }
}

export interface Readiness {
  readonly ready: boolean
  /** Why not. */
  readonly reason: string
}

export async function readiness(api: ApiClient, signal: AbortSignal): Promise<Readiness> {
  try {
    const options = { signal: bounded(signal), alsoStatus: 503 }
    const answer = await api.json<{ ready: boolean; reasons: readonly string[] }>('GET', '/readyz', options)
    return { ready: answer.ready, reason: answer.reasons.join('; ') }
  } catch (error) {
    if (error instanceof UnreachableError) return { ready: false, reason: 'it does not answer yet' }
    return { ready: false, reason: error instanceof Error ? error.message : String(error) }
  }
}

function bounded(signal: AbortSignal): AbortSignal {
  return AbortSignal.any([signal, AbortSignal.timeout(lookMs)])
}
