import { describe, expect, it } from 'vitest'
import type { ObservedWorkload } from '../../../orchestrator/engines/engine.ts'
import { type KnownModule, plan } from '../../../orchestrator/reconcile/plan.ts'

const observed = (replica: string, generation: number, more: Partial<ObservedWorkload> = {}): ObservedWorkload => ({
  id: `${replica}#${generation}`,
  module: replica.replace(/-\d+$/, ''),
  replica,
  generation,
  specHash: 'spec',
  state: 'running',
  endpoint: { kind: 'tcp', host: '10.0.0.2', port: 8000 },
  gpus: [],
  ...more,
})

function known(
  id: string,
  more: Partial<KnownModule> = {},
  replicas: Record<string, number> = {},
): [string, KnownModule] {
  return [id, { id, wanted: 'enabled', specHash: 'spec', replicas: new Map(Object.entries(replicas)), ...more }]
}

/** One step a line, as a person would read it. */
function text(modules: readonly [string, KnownModule][], workloads: readonly ObservedWorkload[]): string[] {
  return plan(new Map(modules), workloads).map(({ action, workload, cause }) => `${action} ${workload.id}: ${cause}`)
}

describe('the plan', () => {
  it('is empty where what runs is what is known', () => {
    expect(text([known('a', {}, { 'a-0': 3 })], [observed('a-0', 3)])).toEqual([])
    expect(text([known('a')], [])).toEqual([])
  })

  it('leaves what a writer has to that writer, whatever state it is in', () => {
    const state = { state: 'exited', endpoint: undefined } as unknown as Partial<ObservedWorkload>
    expect(
      text([known('a', { wanted: 'disabled', specHash: 'new' }, { 'a-0': 3 })], [observed('a-0', 3, state)]),
    ).toEqual([])
  })

  it('leaves alone what runs of a module that cannot be read now', () => {
    expect(plan(new Map(), [observed('a-0', 1)], new Set(['a']))).toEqual([])
    expect(plan(new Map(), [observed('a-0', 1)], new Set(['b']))).toHaveLength(1)
  })

  it('adopts what is still wanted and removes the rest, each with its cause', () => {
    const { endpoint: _, ...silent } = observed('silent-0', 1)
    const modules = [
      known('a'),
      known('changed', { specHash: 'other' }),
      known('off', { wanted: 'disabled' }),
      known('leaving', { wanted: 'removed' }),
      known('busy', {}, { 'busy-0': 9 }),
      known('twice'),
      known('ended'),
      known('silent'),
    ]
    expect(
      text(modules, [
        observed('a-0', 1),
        observed('changed-0', 1),
        observed('off-0', 1),
        observed('leaving-0', 1),
        observed('busy-0', 8),
        observed('twice-0', 1),
        observed('twice-0', 2),
        observed('ended-0', 1, { state: 'exited' }),
        silent,
        observed('unknown-0', 1),
      ]),
    ).toEqual([
      'adopt a-0#1: a-0 was running already',
      'adopt changed-0#1: changed-0 was running already, with other files or settings: it serves until it is replaced',
      'remove off-0#1: module off is disabled',
      'remove leaving-0#1: module leaving is removed',
      'remove busy-0#8: another generation of busy-0 is in charge',
      'remove twice-0#1: generation 2 of twice-0 is newer',
      'adopt twice-0#2: twice-0 was running already',
      'remove ended-0#1: ended-0 does not run (exited)',
      'remove silent-0#1: silent-0 does not run (running)',
      'remove unknown-0#1: there is no module unknown any more',
    ])
  })

  it('never adopts two generations of one replica, in whichever order they are listed', () => {
    const both = [observed('a-0', 1), observed('a-0', 2)]
    for (const listed of [both, both.toReversed()]) {
      expect(text([known('a')], listed).filter((line) => line.startsWith('adopt'))).toEqual([
        'adopt a-0#2: a-0 was running already',
      ])
    }
  })
})
