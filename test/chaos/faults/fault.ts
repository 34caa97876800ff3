import { models } from '../modules.ts'
import type { Random } from '../random.ts'
import { isLive, type Seen } from '../sight.ts'
import type { EngineName, World } from '../world.ts'

/** One way to break something on purpose. It also mends what would not mend by itself: what it stopped, it starts. */
export interface Fault {
  readonly name: string
  readonly about: string
  readonly engines: readonly EngineName[]
  readonly weight: number
  /** Two faults of one resource don't overlap. */
  readonly resource: string
  readonly possible?: (world: World) => boolean
  run(world: World, random: Random, struck: Struck): Promise<void>
}

/** Told at the moment of the blow: how many were killed, and which models had been served by it. */
export type Struck = (kills: number, models: readonly string[]) => void

export const allModels: readonly string[] = Object.keys(models)

export function modelsOf({ replica }: Seen): readonly string[] {
  const module = replica.replace(/-\d+$/, '')
  return allModels.filter((model) => models[model] === module)
}

/** One of the workloads that live; undefined when there is none, or the engine is away. */
export async function anyWorkload(world: World, random: Random): Promise<Seen | undefined> {
  const seen = await world.sight.list().catch(() => [])
  const live = seen.filter((each) => each.role === 'workload' && isLive(each))
  // The engine's order is not the same in two runs.
  live.sort((a, b) => (a.replica < b.replica ? -1 : 1))
  return live.length === 0 ? undefined : random.pick(live)
}

/** False when it has ended already. */
export function signalTo(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}
