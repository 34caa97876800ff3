import type { ObservedWorkload } from '../engines/engine.ts'

/**
 * Observed workloads against what is known: a plan whose every step has its cause. Pure; the supervisor executes it.
 */
export type PlanStep =
  | { readonly action: 'adopt'; readonly module: string; readonly workload: ObservedWorkload; readonly cause: string }
  | { readonly action: 'remove'; readonly module: string; readonly workload: ObservedWorkload; readonly cause: string }

export interface KnownModule {
  readonly id: string
  readonly wanted: 'enabled' | 'disabled' | 'removed'
  readonly specHash: string
  /** Replicas that a writer has, whatever their state, with their generation. */
  readonly replicas: ReadonlyMap<string, number>
}

/** Workloads that no writer has: taken over where they are still what is wanted, removed otherwise. */
export function plan(
  known: ReadonlyMap<string, KnownModule>,
  observed: readonly ObservedWorkload[],
  /** Modules that are there and can't be read now: what runs of them is left alone until a good manifest decides. */
  unreadable: ReadonlySet<string> = new Set(),
): readonly PlanStep[] {
  const steps: PlanStep[] = []
  const newest = newestGenerations(observed)
  for (const workload of observed) {
    const { module, replica, generation } = workload
    const owner = known.get(module)
    if (owner?.replicas.get(replica) === generation || (!owner && unreadable.has(module))) continue
    const cause = removalCause(owner, workload, newest.get(replica) ?? generation)
    if (cause) steps.push({ action: 'remove', module, workload, cause })
    else steps.push({ action: 'adopt', module, workload, cause: adoptionCause(owner, workload) })
  }
  return steps
}

function removalCause(owner: KnownModule | undefined, workload: ObservedWorkload, newest: number): string | undefined {
  if (!owner) return `there is no module ${workload.module} any more`
  if (owner.wanted !== 'enabled') return `module ${owner.id} is ${owner.wanted}`
  if (owner.replicas.has(workload.replica)) return `another generation of ${workload.replica} is in charge`
  if (workload.generation !== newest) return `generation ${newest} of ${workload.replica} is newer`
  if (workload.state !== 'running' || !workload.endpoint) return `${workload.replica} does not run (${workload.state})`
  return undefined
}

/** One of another make serves until a new one has taken its place. */
function adoptionCause(owner: KnownModule | undefined, { replica, specHash }: ObservedWorkload): string {
  const runs = `${replica} was running already`
  return specHash === owner?.specHash ? runs : `${runs}, with other files or settings: it serves until it is replaced`
}

function newestGenerations(observed: readonly ObservedWorkload[]): ReadonlyMap<string, number> {
  const newest = new Map<string, number>()
  for (const { replica, generation } of observed) newest.set(replica, Math.max(generation, newest.get(replica) ?? 0))
  return newest
}
