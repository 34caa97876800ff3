import { describe, expect, it } from 'vitest'
import type { ObservedWorkload } from '../../../orchestrator/engines/engine.ts'
import { Removals } from '../../../orchestrator/reconcile/removals.ts'
import type { ModuleRecord } from '../../../orchestrator/reconcile/supervisor.ts'

const workload = (id: string, module: string): ObservedWorkload => ({
  id,
  module,
  replica: `${module}-0`,
  generation: 1,
  specHash: 'hash',
  state: 'running',
  gpus: [],
})

/** Removals on record, and an engine that notes what it is told. */
function rig(onRecord: readonly string[], records: readonly string[] = []) {
  const left = new Set(onRecord)
  const told: string[] = []
  const problems: string[] = []
  let away: Error | undefined
  const removals = new Removals({
    store: { removals: { list: () => [...left], done: (id) => void left.delete(id) } },
    supervisor: { records: new Map(records.map((id) => [id, {} as ModuleRecord])) },
    engine: {
      list: async () => [workload('w1', 'gone'), workload('w2', 'other')],
      stop: async (id) => void told.push(`stop ${id}`),
      async forget(module, { data }) {
        if (away) throw away
        told.push(`forget ${module} data=${data}`)
      },
    },
    forgetTelemetry: async (module) => void told.push(`log of ${module}`),
    onProblem: (module) => void problems.push(module),
  })
  const lose = (error: Error | undefined) => {
    away = error
  }
  return { removals, left, told, problems, lose }
}

const soon = () => AbortSignal.timeout(5_000)

describe('a removal that an earlier orchestrator did not finish', () => {
  it('is finished: what still runs is stopped, then its data goes, and it is off the record', async () => {
    const { removals, left, told } = rig(['gone'])
    await removals.resume()
    expect(told).toEqual(['stop w1', 'forget gone data=true', 'log of gone'])
    expect([...left]).toEqual([])
    await removals.resume()
    expect(told).toHaveLength(3)
  })

  it('is none any more where a module of that id is there again', async () => {
    const { removals, left, told } = rig(['gone'], ['gone'])
    await removals.resume()
    expect([told, [...left]]).toEqual([[], []])
  })

  it('that fails stays on record, and is tried when the engine is there again', async () => {
    const { removals, left, lose, problems } = rig(['gone'])
    lose(new Error('away'))
    await removals.resume()
    expect([problems, [...left]]).toEqual([['gone'], ['gone']])
    lose(undefined)
    await removals.resume()
    expect([...left]).toEqual([])
  })
})

describe('a removal', () => {
  it("under way is nobody else's to finish", async () => {
    const { removals, told } = rig([])
    const finishing = removals.finish('gone', undefined, soon())
    await removals.resume()
    await finishing
    expect(told).toEqual(['forget gone data=true', 'log of gone'])
  })

  it('that the engine did not live to see is finished when it is back', async () => {
    const { removals, told, lose } = rig([])
    lose(new Error('away'))
    await expect(removals.finish('gone', undefined, soon())).rejects.toThrow('away')
    lose(undefined)
    await removals.resume()
    expect(told).toContain('forget gone data=true')
  })
})
