import { type Decision, type Moment, nothing } from './decision.ts'
import { isLive, isUp, type ModuleState, type Scaling, stays } from './state.ts'

/**
 * Autoscaling follows the line, not the processor: the load needs more replicas than there are for a while, and more are
 * started; it needs fewer for much longer, and they go. A start under way is waited for, however slow it is.
 */

/** How long requests must have had to wait before a replica is added. */
export const upAfterMs = 1_000
/** How long fewer must have been enough before one is taken away. */
export const downAfterMs = 300_000

/** Has room between what always runs and what may run. */
export function autoscales(state: ModuleState): boolean {
  const { min, max } = state.definition.manifest.scale
  return max > Math.max(1, min)
}

/** How many replicas the requests in flight and in line fill, by `scale.target_inflight`, else by what a replica takes at once. */
export function needed(state: ModuleState): number {
  const { concurrency, scale } = state.definition.manifest
  const load = new Map<string, number>()
  const add = (model: string, count: number) => load.set(model, (load.get(model) ?? 0) + count)
  for (const { kind, model } of state.waiters) if (kind === 'use') add(model, 1)
  for (const replica of state.replicas.values()) {
    if (isLive(replica)) for (const [model, { inflight }] of replica.models) add(model, inflight)
  }
  let most = 0
  for (const [model, count] of load) {
    const room = scale.targetInflight ?? state.definition.models.get(model)?.maxSimulUsers ?? concurrency
    most = Math.max(most, Math.ceil(count / room))
  }
  return Math.min(most, scale.max)
}

/** Keeps, after every event, since when the load has been above or below what is there. */
export function noteLoad(state: ModuleState, nowMs: number): void {
  const { scaling } = state
  const { min, max } = state.definition.manifest.scale
  const floor = Math.max(1, min)
  const target = Math.max(floor, Math.min(scaling.target, Math.max(floor, max)))
  // Other limits hold: what the load was under those before says nothing about it.
  if (target !== scaling.target || !autoscales(state)) forgetLoad(scaling)
  scaling.target = target
  if (!autoscales(state)) return
  const load = needed(state)
  // Requests that a start holds back say nothing about how many replicas they need.
  if (load > scaling.target && upCount(state) >= scaling.target) scaling.overSinceMs ??= nowMs
  else scaling.overSinceMs = undefined
  if (load < scaling.target && scaling.target > floor) {
    scaling.underSinceMs ??= nowMs
    scaling.peak = Math.max(scaling.peak, load)
  } else {
    scaling.underSinceMs = undefined
    scaling.peak = 0
  }
}

/** Another number holds: the load is watched anew. */
export function rescaled(state: ModuleState, target: number, nowMs: number): void {
  state.scaling.target = target
  forgetLoad(state.scaling)
  noteLoad(state, nowMs)
}

function forgetLoad(scaling: Scaling): void {
  scaling.overSinceMs = undefined
  scaling.underSinceMs = undefined
  scaling.peak = 0
}

function upCount(state: ModuleState): number {
  return [...state.replicas.values()].filter((replica) => stays(replica) && isUp(replica)).length
}

export function rescale(state: ModuleState, { nowMs }: Moment): readonly Decision[] {
  const { scaling } = state
  const { min, max } = state.definition.manifest.scale
  if (scaling.overSinceMs !== undefined && nowMs - scaling.overSinceMs >= upAfterMs) {
    // At most twice as many at once: the first of them may be enough.
    const target = Math.min(max, needed(state), scaling.target * 2)
    const waiting = state.waiters.length
    const cause = `${waiting} ${waiting === 1 ? 'request waits' : 'requests wait'}, for ${upAfterMs / 1000} s or longer`
    return target > scaling.target ? [{ do: 'scale', target, cause }] : nothing
  }
  if (scaling.underSinceMs !== undefined && nowMs - scaling.underSinceMs >= downAfterMs) {
    const target = Math.max(1, min, scaling.peak)
    const cause = `${target} were enough for ${downAfterMs / 1000} s`
    return target < scaling.target ? [{ do: 'scale', target, cause }] : nothing
  }
  return nothing
}

/** When `rescale` has something to say without another event, milliseconds of the clock. */
export function rescaleMs({ scaling }: ModuleState): number {
  const { overSinceMs, underSinceMs } = scaling
  return Math.min(
    overSinceMs === undefined ? Number.POSITIVE_INFINITY : overSinceMs + upAfterMs,
    underSinceMs === undefined ? Number.POSITIVE_INFINITY : underSinceMs + downAfterMs,
  )
}
