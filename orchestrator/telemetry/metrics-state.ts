import type { Registry } from 'prom-client'
import { replicaStates } from '../domain/replica.ts'
import type { ModuleView } from '../domain/views.ts'
import { observedGauge } from './metric-families.ts'

/** Memory of one device that one holder has. */
export interface GpuUse {
  /** The device. */
  readonly id: string
  /** The module; `other` for what is not Berth's. */
  readonly holder: string
  readonly bytes: number
}

/** What is asked for at every scrape, so that it is never behind. */
export interface StateSources {
  modules: () => readonly ModuleView[]
  gpus: () => readonly GpuUse[]
}

export function stateGauges(registry: Registry, sources: StateSources): void {
  observedGauge(
    registry,
    { name: 'berth_module_state', help: '1 for the state a module is in', labels: ['module', 'state'] },
    function* () {
      for (const { id, state } of sources.modules()) {
        for (const each of replicaStates) yield [[id, each], each === state ? 1 : 0]
      }
    },
  )
  observedGauge(
    registry,
    { name: 'berth_module_replicas', help: 'Replicas of a module, by state', labels: ['module', 'state'] },
    function* () {
      for (const { id, replicas } of sources.modules()) {
        const counts = new Map<string, number>()
        for (const { state } of replicas) counts.set(state, (counts.get(state) ?? 0) + 1)
        for (const [state, count] of counts) yield [[id, state], count]
      }
    },
  )
  observedGauge(
    registry,
    { name: 'berth_gpu_memory_bytes', help: 'Memory of a GPU that a module holds', labels: ['gpu', 'module'] },
    () => {
      // Replicas of one module on one device are one series: Prometheus takes no series twice.
      const sums = new Map<string, readonly [readonly string[], number]>()
      for (const { id, holder, bytes } of sources.gpus()) {
        const key = `${id}\u0000${holder}`
        sums.set(key, [[id, holder], (sums.get(key)?.[1] ?? 0) + bytes])
      }
      return sums.values()
    },
  )
}
