import type { Desired } from './desired.ts'
import { models } from './modules.ts'
import type { ErrorOutcome, Outcome } from './outcome.ts'
import type { World } from './world.ts'

/** Faults may fail requests, and each only in its own way. Undefined: explained; else what is wrong with the outcome. */
export interface Asked {
  readonly model: string
  readonly beganMs: number
}

export function judge(outcome: Outcome, asked: Asked, world: World, desired: Desired): string | undefined {
  const { model, beganMs } = asked
  switch (outcome.kind) {
    case 'ok':
    case 'left':
      return undefined
    case 'refused':
    case 'cut':
      if (world.outages.since('orchestrator', beganMs)) return undefined
      return `${model}: the connection was ${outcome.kind} while the orchestrator ran`
    case 'unfinished':
      return `${model}: an answer ended without its last frame: ${outcome.what}`
    case 'wrong':
      return `${model}: a wrong answer: ${outcome.what}`
    case 'hung':
      return `${model}: no answer within the bound${outcome.begun ? ', after it had begun' : ''}`
    case 'error':
      return explains(outcome, asked, world, desired) ? undefined : `${model}: ${outcome.code}: ${outcome.message}`
  }
}

/** What a module that was killed, paused or could not be started answers. */
const ofFaults = new Set([
  'WORKLOAD_EXITED',
  'OUT_OF_MEMORY',
  'RUNNER_UNREACHABLE',
  'STREAM_INTERRUPTED',
  'START_TIMEOUT',
  'LOAD_TIMEOUT',
  'INFERENCE_TIMEOUT',
  'MODULE_BUSY',
])

/** Longer ago than this, an outage explains nothing any more: back-off included. */
const afterEffectMs = 65_000

function explains(outcome: ErrorOutcome, { model, beganMs }: Asked, world: World, desired: Desired): boolean {
  const { code, message } = outcome
  const recently = (what: string) => world.outages.since(what, beganMs - afterEffectMs)
  if (ofFaults.has(code)) return true
  switch (code) {
    case 'SHUTTING_DOWN':
      return world.outages.since('orchestrator', beganMs)
    case 'MODULE_DISABLED':
      return desired.maybeDisabled(models[model] ?? '', beganMs)
    case 'MODULE_NOT_FOUND':
    case 'MODEL_NOT_FOUND':
      return desired.maybeAbsent(models[model] ?? '', beganMs)
    case 'ENGINE_UNAVAILABLE':
      return recently('daemon') || recently('disk')
    // The store can't be written: it says so, and with what remedy.
    case 'INTERNAL':
      return recently('disk') && /store .* can't be used|no space/i.test(message)
    // `calls` raises what its call of another model came to.
    case 'INFERENCE_FAILED':
      return model === 'calls'
    default:
      return false
  }
}
