import { BerthError } from '../domain/errors.ts'
import { type Decision, type Moment, nothing } from './decision.ts'
import { warmsUp } from './loading.ts'
import { outdatedStarts, wantedStarts } from './replicas.ts'
import { isFree, isHeldBack } from './serving.ts'
import { type HeldBack, isUp, type ModuleState, type Replica, stays, type Waiter } from './state.ts'

/** What becomes of replicas, and of those who wait for them, while there is no GPU or no memory for them. */

/** Somebody waits, and no replica but this one could serve. */
export function isUrgent(state: ModuleState, replica: string): boolean {
  if (state.waiters.length === 0 && !state.operations.some(({ kind }) => kind === 'load')) return false
  return ![...state.replicas.values()].some((other) => {
    return other.id !== replica && stays(other) && !state.shortages.has(other.id)
  })
}

/** Claims that nobody needs any more, and replicas that had better start anew where there is room. */
export function withdrawals(state: ModuleState, moment: Moment): readonly Decision[] {
  if (state.shortages.size === 0) return nothing
  const starts = new Set([...wantedStarts(state, moment), ...outdatedStarts(state)].map(({ replica }) => replica))
  const decisions: Decision[] = []
  for (const [id, { shortage }] of state.shortages) {
    const replica = state.replicas.get(id)
    if (!replica || !isUp(replica)) {
      if (!starts.has(id)) decisions.push({ do: 'withdraw', replica: id })
    } else if (!isFree(replica) || !lacksModels(state, replica)) decisions.push({ do: 'withdraw', replica: id })
    else if (shortage.elsewhere && isHeldBack(state, id)) {
      const cause = `its GPU has no room for its models, and another one has`
      decisions.push({ do: 'drain', replica, cause, servesWaiters: false })
    }
  }
  return decisions
}

function lacksModels(state: ModuleState, replica: Replica): boolean {
  if (state.operations.some(({ kind }) => kind === 'load') || warmsUp(state, replica)) return true
  return state.waiters.some(({ model }) => !replica.models.has(model))
}

/** What keeps a model from being served, where nothing but room is missing. */
function lackOf(state: ModuleState, model: string | undefined): HeldBack | undefined {
  if (state.shortages.size === 0) return undefined
  for (const replica of state.replicas.values()) {
    if (!stays(replica)) continue
    if (!state.shortages.has(replica.id)) return undefined
    if (model !== undefined && replica.models.get(model)?.stale === false) return undefined
  }
  return [...state.shortages.values()].toSorted((a, b) => a.sinceMs - b.sinceMs)[0]
}

/** Why one who has waited for room for too long is sent away, or undefined; without a waiter: an explicit load. */
export function overdueForRoom(state: ModuleState, waiter: Waiter | undefined, nowMs: number): BerthError | undefined {
  const dueMs = roomDueMs(state, waiter)
  const held = lackOf(state, waiter?.model)
  return held && nowMs >= dueMs ? shortageError(state.id, held) : undefined
}

/** When its time of waiting for room is over; Infinity: it does not wait for room. */
export function roomDueMs(state: ModuleState, waiter: Waiter | undefined): number {
  const held = lackOf(state, waiter?.model)
  if (!held) return Number.POSITIVE_INFINITY
  return Math.max(held.sinceMs, waiter?.sinceMs ?? 0) + state.definition.manifest.queue.timeoutMs
}

/** GPU_UNAVAILABLE, naming the holders; main memory that is short is the engine's to have. */
export function shortageError(module: string, { shortage }: HeldBack): BerthError {
  const { of, devices, holders } = shortage
  const others = holders.filter((holder) => holder !== module)
  const held = others.length > 0 ? `held by ${others.join(', ')}` : 'none of it held by another module'
  const what = of === 'gpu' ? `room on a GPU (${devices.join(', ')})` : 'main memory for its resources.memory'
  const remedy =
    of === 'gpu'
      ? 'see `GET /api/gpus`; stop or offload a holder, give holders an idle_ttl, or ask for less (gpu.memory, gpu: optional)'
      : 'stop a holder, give holders a stop_ttl, ask for less (resources.memory), or raise `memory` in berth.yaml'
  return new BerthError(
    of === 'gpu' ? 'GPU_UNAVAILABLE' : 'ENGINE_UNAVAILABLE',
    `Module ${module} waits for ${what}: ${held}.`,
    { module, holders: others, ...(devices.length > 0 ? { devices } : {}), remedy },
  )
}
