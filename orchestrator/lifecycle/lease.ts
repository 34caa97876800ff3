import type { Priority } from '../domain/priority.ts'
import type { RunnerClient } from '../runner/client.ts'
import type { LoadedModel, ModuleDefinition, Replica } from './state.ts'

/** The right to use a loaded model on one replica; exactly one `release` gives it back. */
export interface Lease {
  readonly module: string
  readonly replica: string
  readonly generation: number
  readonly model: string
  readonly client: RunnerClient
  readonly definition: ModuleDefinition
  /** How long the caller waited for a start and for a load, milliseconds; the rest it stood in the queue. */
  readonly waited: { readonly startMs: number; readonly loadMs: number }
  /**
   * `lost`, `out-of-memory`: the worker or runner may be gone, its health is asked before anything else is granted.
   * `hung`, `stranger` (another runner answers in its place): it must be replaced. More than one call does nothing.
   */
  release(outcome?: LeaseOutcome): void
}

export type LeaseOutcome = 'lost' | 'out-of-memory' | 'hung' | 'stranger'

export interface WaitOptions {
  readonly model: string
  readonly maxInflight: number
  /** Whom the queue is fair to: `key:<name>`, `address:<client's address>` or `module:<id>`. */
  readonly caller: string
  readonly priority: Priority
  readonly signal: AbortSignal
  /** Called when only other requests keep this one waiting, and whenever its place changes; 1 is next. */
  readonly onPosition?: (position: number) => void
}

/** Counts the lease in; `onRelease` is called once. */
export function grantLease(
  definition: ModuleDefinition,
  replica: Replica,
  waiter: { readonly model: string; readonly sinceMs: number },
  loaded: LoadedModel,
  client: RunnerClient,
  onRelease: (outcome: LeaseOutcome | undefined) => void,
): Lease {
  loaded.inflight += 1
  replica.inflight += 1
  const { model, sinceMs } = waiter
  let held = true
  return {
    module: definition.manifest.id,
    replica: replica.id,
    generation: replica.generation,
    model,
    client,
    definition,
    waited: {
      startMs: Math.max(0, replica.startedMs - sinceMs),
      loadMs: Math.max(0, loaded.loadedMs - Math.max(loaded.loadBeganMs, sinceMs)),
    },
    release(outcome) {
      if (!held) return
      held = false
      onRelease(outcome)
    },
  }
}
