import { steadyClock } from '../../orchestrator/domain/clock.ts'
import { engineEffects } from '../../orchestrator/lifecycle/engine-effects.ts'
import type { Instance } from '../../orchestrator/lifecycle/workload.ts'
import { type DesiredState, Supervisor } from '../../orchestrator/reconcile/supervisor.ts'
import { testManifest, testModel } from '../../test/support/definitions.ts'
import { endlessResources } from '../../test/support/endless-resources.ts'
import { MemoryEngine, MemoryWorld } from '../../test/support/memory-engine.ts'
import { silentObserver } from '../../test/support/silent-observer.ts'
import { benchModule } from '../berth.ts'
import type { Comparison } from '../comparison.ts'

/** How the cost of deciding grows with the number of modules: all of them running, in the in-memory engine. */
const few = 250
const many = 1_000
/** Above four times as much: of a thousand modules the processor's caches hold less. */
const atMost = 1.5
const source = { kind: 'folder', path: benchModule('noop') } as const
const instance: Instance = { id: 'bench', secret: 'secret' }

export const decisions: Comparison = {
  name: 'decisions',
  about: `decisions for ${many} modules against ${many / few} times those for ${few} (in-memory engine)`,
  async run({ rounds, say }) {
    say(`decisions: starting ${few}, then ${many} modules`)
    const small = await measure(few, rounds * 20)
    const large = await measure(many, rounds * 4)
    return (Object.keys(small) as (keyof Costs)[]).map((what) => ({
      what: `${what}, ${many} modules`,
      unit: 'ms',
      berth: large[what],
      peer: { name: `${many / few} x ${few} modules`, value: small[what] * (many / few) },
      target: { of: 'ratio', at: 'most', bound: atMost } as const,
    }))
  },
}

interface Costs {
  readonly 'one reconcile': number
  readonly 'a lease on each module, and back': number
  readonly 'one changed module, desired state applied': number
}

async function measure(modules: number, times: number): Promise<Costs> {
  const world = new MemoryWorld()
  const engine = new MemoryEngine({ instance: instance.id, world })
  let generation = 0
  const supervisor = new Supervisor({
    engine,
    instance,
    effects: engineEffects({
      engine,
      instance,
      nextGeneration: () => {
        generation += 1
        return generation
      },
      loaded: { put() {}, remove() {}, clear() {}, of: () => new Map() },
      ready: async () => {},
      followLog() {},
    }),
    resources: endlessResources(steadyClock),
    observer: silentObserver,
    clock: steadyClock,
    random: Math.random,
    reconciled() {},
    log() {},
  })
  const ids = Array.from({ length: modules }, (_, index) => `mod-${index}`)
  const desired = (version: string): DesiredState => ({
    modules: ids.map((id, index) => {
      const manifest = testManifest({ id, source, ...(index === 0 ? { version } : {}) })
      return { id, format: 'service', source: manifest.source, manifest }
    }),
    models: new Map(ids.map((id) => [id, testModel(id, { module: id })])),
    aliases: new Map(),
    modelErrors: new Map(),
    disabled: new Set(),
    scales: new Map(),
  })
  try {
    await engine.connect(AbortSignal.timeout(10_000))
    supervisor.apply(desired('1.0.0'))
    const writers = ids.flatMap((id) => supervisor.records.get(id)?.writer ?? [])
    const signal = AbortSignal.timeout(120_000)
    await Promise.all(
      writers.map((writer) => writer.ensureLoaded({ ...asker, model: writer.state.id, maxInflight: 1, signal })),
    )
    return {
      'one reconcile': await each(times, () => supervisor.reconcile()),
      'a lease on each module, and back': await each(times, () => {
        for (const writer of writers) writer.acquireNow(writer.state.id, 1)?.release()
      }),
      'one changed module, desired state applied': await each(times, (turn) =>
        supervisor.apply(desired(`1.0.${turn}`)),
      ),
    }
  } finally {
    supervisor.close()
    await engine.close()
    await world.dispose()
  }
}

const asker = { caller: 'address:bench', priority: 'normal' } as const

/** Milliseconds of processor time of one, the median of all: what else the machine does hardly changes it. */
async function each(times: number, work: (turn: number) => unknown): Promise<number> {
  const taken: number[] = []
  for (let turn = 1; turn <= times; turn += 1) {
    const began = process.cpuUsage()
    await work(turn)
    const { user, system } = process.cpuUsage(began)
    taken.push((user + system) / 1_000)
  }
  return taken.sort((a, b) => a - b)[Math.floor(taken.length / 2)] ?? Number.NaN
}
