import { setTimeout as delay } from 'node:timers/promises'
import type { Report } from './report.ts'
import { isLive } from './sight.ts'
import type { World } from './world.ts'

/** Looks all the time: never two live workloads under one replica id. */
const everyMs = 250

export async function watchDoubles(world: World, report: Report, signal: AbortSignal): Promise<void> {
  /** What the look before has shown already: a process that is just ending shows once. */
  let before = new Set<string>()
  const told = new Set<string>()
  while (!signal.aborted) {
    const seen = await world.sight.list().catch(() => undefined)
    const doubles = new Set<string>()
    const replicas = new Map<string, string[]>()
    for (const each of seen ?? [])
      if (each.role === 'workload' && isLive(each))
        replicas.set(each.replica, [...(replicas.get(each.replica) ?? []), `${each.generation} (${each.id})`])
    for (const [replica, live] of replicas) {
      if (live.length < 2) continue
      const what = `${replica} lives as generations ${live.sort().join(' and ')}`
      doubles.add(what)
      if (!before.has(what) || told.has(what)) continue
      told.add(what)
      report.broken('double generation', what)
    }
    before = doubles
    await delay(everyMs)
  }
}
