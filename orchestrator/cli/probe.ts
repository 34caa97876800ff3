import { BerthError } from '../domain/errors.ts'
import type { ApiClient } from './client.ts'

/** A look at an orchestrator gets an answer within this or counts as none. */
const lookMs = 3_000

/** Whether an orchestrator answers. */
export async function isHealthy(api: ApiClient, signal: AbortSignal): Promise<boolean> {
  try {
    await api.json('GET', '/healthz', { signal: AbortSignal.any([signal, AbortSignal.timeout(lookMs)]) })
    return true
  } catch {
    signal.throwIfAborted()
    return false
  }
}

/** Whether it is ready, and if not, why. */
export async function readiness(
  api: ApiClient,
  signal: AbortSignal,
): Promise<{ readonly ready: true } | { readonly ready: false; readonly reason: string }> {
  try {
    await api.json('GET', '/readyz', { signal: AbortSignal.any([signal, AbortSignal.timeout(lookMs)]) })
    return { ready: true }
  } catch (error) {
    return { ready: false, reason: reasonOf(error) }
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof BerthError) {
    const { reasons } = error.details
    return Array.isArray(reasons) && reasons.length > 0 ? reasons.map(String).join('; ') : error.message
  }
  return error instanceof Error ? error.message : String(error)
}
