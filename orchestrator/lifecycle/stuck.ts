import { BerthError } from '../domain/errors.ts'
import type { ModuleState } from './state.ts'

/** Waiting for a workload to be gone: only then may another start. An engine that does not end it must not hold requests for ever. */

/** When who waits since `sinceMs` is told, milliseconds of the clock; Infinity: they wait for something else. */
export function goneDueMs(state: ModuleState, sinceMs: number): number {
  const all = [...state.replicas.values()]
  if (all.length === 0 || state.preparation.state !== 'done') return Number.POSITIVE_INFINITY
  if (all.some((replica) => replica.state !== 'stopping')) return Number.POSITIVE_INFINITY
  const ends = all.map(({ drain }) => (drain ? drain.deadlineMs + drain.graceMs : 0))
  return Math.max(sinceMs, ...ends) + state.definition.manifest.queue.timeoutMs
}

/** Why one who has waited for that for too long is sent away, or undefined. */
export function overdueForEnd(state: ModuleState, sinceMs: number, nowMs: number): BerthError | undefined {
  if (nowMs < goneDueMs(state, sinceMs)) return undefined
  const replicas = [...state.replicas.keys()]
  const message = `Module ${state.id} can't start while ${replicas.join(', ')} is still being stopped, and the engine has not ended it in time; look at its container.`
  return new BerthError('ENGINE_UNAVAILABLE', message, { module: state.id, replicas })
}
