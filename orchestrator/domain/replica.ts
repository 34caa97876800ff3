/** The replica state machine as a table (architecture). Only the module's writer moves a replica along it. */
export const replicaStates = [
  'absent',
  'preparing',
  'starting',
  'idle',
  'loading',
  'ready',
  'offloading',
  'stopping',
  'failed',
] as const

export type ReplicaState = (typeof replicaStates)[number]

const transitions: Readonly<Record<ReplicaState, readonly ReplicaState[]>> = {
  absent: ['preparing', 'idle', 'ready'], // idle, ready: a running workload is adopted
  preparing: ['starting', 'stopping', 'failed'],
  starting: ['idle', 'stopping', 'failed'],
  idle: ['loading', 'ready', 'stopping', 'failed'], // ready: the runner reports a model that it loaded itself
  loading: ['ready', 'idle', 'stopping', 'failed'], // idle: the load failed and the worker lives
  ready: ['loading', 'offloading', 'idle', 'stopping', 'failed'], // idle: the worker died and was replaced
  offloading: ['idle', 'ready', 'stopping', 'failed'], // ready: other models stay loaded
  stopping: ['absent', 'failed'],
  failed: ['preparing', 'stopping', 'absent'],
}

export function canMove(from: ReplicaState, to: ReplicaState): boolean {
  return transitions[from].includes(to)
}

/** A module's state is its best replica's: the first of these that any replica has. */
const best: readonly ReplicaState[] = [
  'ready',
  'loading',
  'offloading',
  'idle',
  'starting',
  'preparing',
  'stopping',
  'failed',
  'absent',
]

export function bestState(states: Iterable<ReplicaState>): ReplicaState {
  const set = new Set(states)
  return best.find((state) => set.has(state)) ?? 'absent'
}
