import { warmsUp } from '../loading.ts'
import { maySleep } from '../replicas.ts'
import { isFree, isHeldBack } from '../serving.ts'
import { isLive, type LoadedModel, type ModuleState, type Replica, replacedBy } from '../state.ts'
import type { Standing } from './eviction.ts'

/** What a start and a load take where none was seen yet, milliseconds. */
const unseen = { bootMs: 10_000, loadMs: 10_000 }

/** How a replica stands, for those who look for room: a hint to others, and the rule for its own writer. */
export function standingOf(state: Readonly<ModuleState>, replica: Replica): Standing {
  if (replica.state === 'stopping' || (isLive(replica) && replica.drain)) return { state: 'leaving' }
  const { operation } = replica
  if (operation?.kind === 'offload' && operation.models.length >= replica.models.size) return { state: 'emptying' }
  // One that waits for room serves nobody who waits: those before it in line may have what it has.
  const isAwaited = state.waiters.length > 0 || state.operations.length > 0 || warmsUp(state, replica)
  const isNeeded = (isAwaited && !isHeldBack(state, replica.id)) || takesOver(state, replica)
  if (isNeeded || !isFree(replica) || replica.inflight > 0) return { state: 'busy', remains: !maySleep(state) }
  const loadMs = [...replica.models.values()].reduce((sum, model) => sum + loadTime(model), 0)
  return {
    state: 'idle',
    ...(replica.models.size > 0 ? { offloadMs: loadMs } : {}),
    ...(maySleep(state) ? { stopMs: (replica.bootMs || unseen.bootMs) + loadMs } : {}),
  }
}

function takesOver(state: Readonly<ModuleState>, replica: Replica): boolean {
  const replaced = replacedBy(state, replica)
  return replaced !== undefined && isLive(replaced)
}

function loadTime({ loadBeganMs, loadedMs }: LoadedModel): number {
  return loadedMs > 0 ? loadedMs - loadBeganMs : unseen.loadMs
}
