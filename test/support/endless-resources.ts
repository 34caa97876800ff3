import type { Clock } from '../../orchestrator/domain/clock.ts'
import { Resources } from '../../orchestrator/lifecycle/resources/resources.ts'

/** A machine without GPUs, on which memory never runs short. */
export function endlessResources(clock: Clock): Resources {
  return new Resources({
    machine: () => ({ devices: [], memoryBytes: Number.POSITIVE_INFINITY }),
    now: () => clock.now(),
  })
}
