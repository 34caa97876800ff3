import { type ModuleState, type Replica, stays } from './state.ts'

/** A lease only on a replica that is ready, has the model, and is neither leaving nor under suspicion. */
export function canServe(replica: Replica, model: string): boolean {
  return (
    replica.state === 'ready' &&
    replica.suspicion === 'none' &&
    replica.models.get(model)?.stale === false &&
    (replica.drain === undefined || replica.drain.servesWaiters)
  )
}

/** Whoever waits for the model waits for other requests, not for a start or a load. */
export function isServed(state: ModuleState, model: string): boolean {
  for (const replica of state.replicas.values()) {
    if (canServe(replica, model) || isStaleInUse(replica, model)) return true
  }
  return false
}

/** Its configuration has changed, and it is loaded anew as soon as those who use it have ended. */
export function isStaleInUse(replica: Replica, model: string): boolean {
  const loaded = replica.models.get(model)
  return loaded?.stale === true && loaded.inflight > 0 && stays(replica)
}

/** An explicit offload that waits for leases must get its turn: nothing new is granted on, or loaded of, its models. */
export function isOffloading(state: ModuleState, model: string): boolean {
  return state.operations.some((operation) => operation.kind === 'offload' && operation.names.includes(model))
}

/** Can take a load or an offload now. */
export function isFree(replica: Replica): boolean {
  return (
    (replica.state === 'idle' || replica.state === 'ready') &&
    !replica.operation &&
    replica.suspicion === 'none' &&
    replica.drain === undefined
  )
}

/** Waits for a GPU or memory, and nothing has changed since it was told that there is no room. */
export function isHeldBack(state: ModuleState, replica: string): boolean {
  return state.shortages.get(replica)?.retry === false
}
