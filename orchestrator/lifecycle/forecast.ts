import { decide } from './decide.ts'
import type { Decision, Moment } from './decision.ts'
import { retryMs, wantedReplicas } from './replicas.ts'
import { isLive, type ModuleState } from './state.ts'

/** What a writer is about to do, for people: nothing is done by asking. */
export interface ForecastStep {
  readonly action: 'prepare' | 'start' | 'stop' | 'replace' | 'scale' | 'load' | 'offload'
  readonly replica?: string
  readonly cause: string
}

export function forecast(state: Readonly<ModuleState>, moment: Moment): readonly ForecastStep[] {
  return [
    ...decide(state, moment).flatMap(asStep),
    ...heldBack(state),
    ...leaving(state),
    ...retries(state, moment),
    ...outdated(state),
  ]
}

function asStep(decision: Decision): ForecastStep[] {
  switch (decision.do) {
    case 'prepare':
      return [{ action: 'prepare', cause: 'its image and environment are to be made present' }]
    case 'start':
      return [{ action: 'start', replica: decision.replica, cause: decision.cause }]
    case 'drain':
    case 'stop':
      return [{ action: 'stop', replica: decision.replica.id, cause: decision.cause }]
    case 'scale':
      return [{ action: 'scale', cause: decision.cause }]
    case 'load':
      return [{ action: 'load', replica: decision.replica.id, cause: `for ${Object.keys(decision.models).join(', ')}` }]
    case 'offload':
      return [{ action: 'offload', replica: decision.replica.id, cause: decision.cause }]
    default:
      return []
  }
}

function leaving(state: Readonly<ModuleState>): ForecastStep[] {
  return [...state.replicas.values()].flatMap(({ id, drain, inflight, state: now }) => {
    if (!drain || now === 'stopping') return []
    return [{ action: 'stop' as const, replica: id, cause: `${drain.cause}; ${inflight} inferences under way` }]
  })
}

/** What waits for a GPU or for memory. */
function heldBack(state: Readonly<ModuleState>): ForecastStep[] {
  return [...state.shortages].map(([replica, { shortage }]) => {
    const action = state.replicas.get(replica)?.state === 'idle' ? 'load' : 'start'
    const what = shortage.of === 'gpu' ? 'room on a GPU' : 'main memory'
    const holders = shortage.holders.filter((holder) => holder !== state.id)
    const cause = `as soon as there is ${what}${holders.length > 0 ? `, held by ${holders.join(', ')}` : ''}`
    return { action, replica, cause }
  })
}

/** What waits for its back-off. */
function retries(state: Readonly<ModuleState>, { nowMs }: Moment): ForecastStep[] {
  const dueMs = retryMs(state, nowMs)
  if (dueMs === Number.POSITIVE_INFINITY) return []
  const inSeconds = Math.max(0, Math.ceil((dueMs - nowMs) / 1000))
  const failed = [...state.replicas.values()].filter((replica) => replica.state === 'failed')
  const { cause } = wantedReplicas(state)
  if (failed.length === 0) {
    const action = state.preparation.state === 'failed' ? 'prepare' : 'start'
    return [{ action, cause: `${cause}; its back-off ends in ${inSeconds} s` }]
  }
  return failed.map(({ id, failure }) => ({
    action: 'start' as const,
    replica: id,
    cause: `it has failed ${failure.count} times in a row; its back-off ends in ${inSeconds} s`,
  }))
}

/** What is replaced as soon as the new environment is there. */
function outdated(state: Readonly<ModuleState>): ForecastStep[] {
  if (state.definition.external || state.preparation.state === 'done') return []
  return [...state.replicas.values()].flatMap((replica) => {
    if (!isLive(replica) || replica.drain || replica.specHash === state.definition.specHash) return []
    const cause = 'its files or settings have changed; it serves until the new environment is there'
    return [{ action: 'replace' as const, replica: replica.id, cause }]
  })
}
