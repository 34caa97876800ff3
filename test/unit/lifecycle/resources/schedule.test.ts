import { describe, expect, it } from 'vitest'
import type { Standing } from '../../../../orchestrator/lifecycle/resources/eviction.ts'
import type { Claim, Holding, Machine } from '../../../../orchestrator/lifecycle/resources/holdings.ts'
import { schedule } from '../../../../orchestrator/lifecycle/resources/schedule.ts'

const machine: Machine = {
  devices: [
    { id: 'gpu0', sizeBytes: 24 },
    { id: 'gpu1', sizeBytes: 24 },
  ],
  memoryBytes: 100,
}

interface Wanted {
  readonly count?: number
  readonly share?: number
  readonly memory?: number
  readonly optional?: boolean
  readonly urgent?: boolean
}

function claim(module: string, { count = 1, share, memory = 0, optional = false, urgent = true }: Wanted = {}): Claim {
  const gpu = { count, optional, ...(share === undefined ? {} : { memoryBytes: share }) }
  return { module, replica: `${module}-0`, memoryBytes: memory, urgent, ...(count === 0 ? {} : { gpu }) }
}

function held(module: string, devices: readonly string[], share?: number, more: Partial<Holding> = {}): Holding {
  return {
    module,
    replica: `${module}-0`,
    memoryBytes: 0,
    devices,
    ...(share === undefined ? {} : { shareBytes: share }),
    active: true,
    measured: new Map(),
    ...more,
  }
}

const idle = (module: string, offloadMs: number, stopMs = offloadMs + 5_000): [string, Standing] => [
  `${module}-0`,
  { state: 'idle', offloadMs, stopMs },
]

function run(holdings: readonly Holding[], claims: readonly Claim[], standings: readonly [string, Standing][] = []) {
  const { grants, shortages, victims } = schedule(machine, holdings, claims, () => new Map(standings))
  return {
    grants: Object.fromEntries([...grants].map(([replica, { devices }]) => [replica, devices])),
    shortages: Object.fromEntries(shortages),
    victims: victims.map(({ replica, what }) => `${what} ${replica}`),
  }
}

describe('a claim on whole devices', () => {
  it('gets those that nobody has', () => {
    expect(run([held('a', ['gpu0'])], [claim('b')]).grants).toEqual({ 'b-0': ['gpu1'] })
    expect(run([held('a', ['gpu0'], 1)], [claim('b')]).grants).toEqual({ 'b-0': ['gpu1'] })
    expect(run([], [claim('b', { count: 2 })]).grants).toEqual({ 'b-0': ['gpu0', 'gpu1'] })
  })

  it('waits for holders that are busy, and names them', () => {
    const { grants, shortages, victims } = run([held('a', ['gpu0']), held('b', ['gpu1'])], [claim('c')])
    expect({ grants, victims }).toEqual({ grants: {}, victims: [] })
    expect(shortages['c-0']).toEqual({
      of: 'gpu',
      devices: ['gpu0', 'gpu1'],
      holders: ['a', 'b'],
      roomIsMade: false,
      elsewhere: false,
    })
  })

  it('has the idle holder stopped that is the cheapest to bring back', () => {
    const holdings = [held('a', ['gpu0']), held('b', ['gpu1'])]
    const { victims, shortages } = run(holdings, [claim('c')], [idle('a', 9_000), idle('b', 1_000)])
    expect(victims).toEqual(['stop b-0'])
    expect(shortages['c-0']?.roomIsMade).toBe(true)
  })

  it('has everybody stopped who shares a device, also those who have nothing loaded', () => {
    const holdings = [
      held('a', ['gpu0'], 2),
      held('b', ['gpu0'], 2, { active: false }),
      held('c', ['gpu1']),
      held('d', ['gpu1'], 2),
    ]
    expect(run(holdings, [claim('e')], [idle('a', 1), idle('b', 1), idle('d', 1)]).victims).toEqual([
      'stop a-0',
      'stop b-0',
    ])
  })

  it('has nobody sent away where that would not be enough', () => {
    const holdings = [held('a', ['gpu0']), held('b', ['gpu1'])]
    expect(run(holdings, [claim('c', { count: 2 })], [idle('a', 1)]).victims).toEqual([])
  })

  it('never has a holder stopped that may not be, nor one of its own module', () => {
    const keeps: [string, Standing] = ['a-0', { state: 'idle', offloadMs: 1 }]
    expect(run([held('a', ['gpu0']), held('b', ['gpu1'])], [claim('c')], [keeps]).victims).toEqual([])
    const second = { ...claim('a', { count: 2 }), replica: 'a-1' }
    expect(run([held('a', ['gpu0'])], [second], [idle('a', 1)]).victims).toEqual([])
  })

  it('takes the processor where it is optional and none is free: nobody goes for it', () => {
    const holdings = [held('a', ['gpu0']), held('b', ['gpu1'])]
    const { grants, victims } = run(holdings, [claim('c', { optional: true })], [idle('a', 1)])
    expect({ grants, victims }).toEqual({ grants: { 'c-0': [] }, victims: [] })
  })

  it('takes the processor on a machine without devices', () => {
    expect(schedule({ devices: [], memoryBytes: 100 }, [], [claim('a')], () => new Map()).grants.get('a-0')).toEqual({
      devices: [],
    })
  })
})

describe('a claim on a share of memory', () => {
  it('goes where it leaves the least room, so that whole devices stay free', () => {
    expect(run([held('a', ['gpu1'], 10)], [claim('b', { share: 14 })]).grants).toEqual({ 'b-0': ['gpu1'] })
    expect(run([held('a', ['gpu1'], 10)], [claim('b', { share: 15 })]).grants).toEqual({ 'b-0': ['gpu0'] })
  })

  it('goes rather where all that is pinned has room together', () => {
    const resting = held('a', ['gpu0'], 20, { active: false })
    expect(run([resting], [claim('b', { share: 10 })]).grants).toEqual({ 'b-0': ['gpu1'] })
    // No device has room for everybody: the freest one then.
    const both = [resting, held('c', ['gpu1'], 20)]
    expect(run(both, [claim('b', { share: 10 })]).grants).toEqual({ 'b-0': ['gpu0'] })
  })

  it('counts what was measured where that is more than what was asked for', () => {
    const greedy = held('a', ['gpu0'], 2, { measured: new Map([['gpu0', 20]]) })
    expect(run([greedy, held('x', ['gpu1'])], [claim('b', { share: 5 })]).grants).toEqual({})
    const modest = held('a', ['gpu0'], 10, { measured: new Map([['gpu0', 3]]) })
    expect(run([modest, held('x', ['gpu1'])], [claim('b', { share: 15 })]).grants).toEqual({})
  })

  it('counts what others use on the device', () => {
    const used = { ...machine, devices: [{ id: 'gpu0', sizeBytes: 24, outsideBytes: 20 }] }
    expect(schedule(used, [], [claim('a', { share: 5 })], () => new Map()).grants.size).toBe(0)
    expect(schedule(used, [], [claim('a', { share: 4 })], () => new Map()).grants.size).toBe(1)
  })

  it('has a device of unknown size alone', () => {
    const unknown = { ...machine, devices: [{ id: 'gpu0' }] }
    const { grants } = schedule(unknown, [], [claim('a', { share: 5 }), claim('b', { share: 5 })], () => new Map())
    expect([...grants]).toEqual([['a-0', { devices: ['gpu0'] }]])
  })

  it('has models offloaded in order of the cost to bring them back for each byte, no more than are needed', () => {
    const full = [held('a', ['gpu0'], 12), held('b', ['gpu0'], 8), held('c', ['gpu0'], 4), held('x', ['gpu1'])]
    // For each byte: a 1000, b 500, c 250.
    const standings = [idle('a', 12_000), idle('b', 4_000), idle('c', 1_000)]
    expect(run(full, [claim('d', { share: 4 })], standings).victims).toEqual(['offload c-0'])
    expect(run(full, [claim('d', { share: 12 })], standings).victims).toEqual(['offload c-0', 'offload b-0'])
    // b alone is enough: c, which would have gone first, is spared.
    expect(run(full, [claim('d', { share: 8 })], standings).victims).toEqual(['offload b-0'])
  })

  it('has workloads stopped only where offloading is not enough', () => {
    const residue = held('a', ['gpu0'], 10, { active: false, measured: new Map([['gpu0', 6]]) })
    const holdings = [residue, held('b', ['gpu0'], 10), held('x', ['gpu1'])]
    const standings: [string, Standing][] = [['a-0', { state: 'idle', stopMs: 10 }], idle('b', 90_000)]
    expect(run(holdings, [claim('c', { share: 18 })], standings).victims).toEqual(['offload b-0'])
    expect(run(holdings, [claim('c', { share: 24 })], standings).victims).toEqual(['stop a-0', 'offload b-0'])
  })

  it('that is taken again has only what is left on its own devices', () => {
    const resting = held('a', ['gpu0'], 10, { active: false })
    const again = { ...claim('a', { share: 10 }), pinned: ['gpu0'] }
    expect(run([resting, held('b', ['gpu0'], 14)], [again]).grants).toEqual({ 'a-0': ['gpu0'] })
    const taken = run([resting, held('b', ['gpu0'], 20)], [again], [idle('b', 1)])
    expect(taken.victims).toEqual(['offload b-0'])
    expect(taken.shortages['a-0']).toMatchObject({ devices: ['gpu0'], holders: ['b'], roomIsMade: true })
  })
})

describe('main memory', () => {
  it('is shared out by the limits, and idle workloads are stopped for it', () => {
    const holdings = [held('a', [], undefined, { memoryBytes: 60 }), held('b', [], undefined, { memoryBytes: 30 })]
    expect(run(holdings, [claim('c', { count: 0, memory: 10 })]).grants).toEqual({ 'c-0': [] })
    const short = run(holdings, [claim('c', { count: 0, memory: 20 })], [idle('a', 1), idle('b', 1)])
    expect(short.victims).toEqual(['stop a-0'])
    expect(short.shortages['c-0']).toEqual({
      of: 'memory',
      devices: [],
      holders: ['a', 'b'],
      roomIsMade: true,
      elsewhere: false,
    })
  })

  it('is taken whole by a limit above it', () => {
    expect(run([], [claim('c', { count: 0, memory: 1_000 })]).grants).toEqual({ 'c-0': [] })
  })

  it('without an account never runs short', () => {
    const endless = { ...machine, memoryBytes: Number.POSITIVE_INFINITY }
    const first = held('a', [], undefined, { memoryBytes: 1e15 })
    expect(schedule(endless, [first], [claim('b', { count: 0, memory: 1e15 })], () => new Map()).grants.size).toBe(1)
  })
})

describe('those who wait', () => {
  it('are served in the order in which they came', () => {
    const { grants, shortages } = run([held('a', ['gpu0'])], [claim('b'), claim('c')])
    expect(grants).toEqual({ 'b-0': ['gpu1'] })
    expect(shortages['c-0']?.holders).toEqual(['a', 'b'])
  })

  it('are not overtaken on what is kept for them', () => {
    expect(run([held('a', ['gpu0'])], [claim('b', { count: 2 }), claim('c')]).grants).toEqual({})
    // One of one device waits for either; the other device is anybody's.
    const shares = [held('a', ['gpu0'], 20), held('b', ['gpu1'], 10)]
    const { grants } = run(shares, [claim('c', { share: 15 }), claim('d', { share: 4 })])
    expect(grants).toEqual({ 'd-0': ['gpu0'] })
  })

  it('come after those who wait urgently, and keep nothing back for themselves', () => {
    const later = claim('c')
    expect(run([held('a', ['gpu0'])], [claim('b', { urgent: false }), later]).grants).toEqual({ 'c-0': ['gpu1'] })
    const patient = claim('b', { count: 2, urgent: false })
    expect(run([held('a', ['gpu0'])], [patient, claim('c', { urgent: false })]).grants).toEqual({ 'c-0': ['gpu1'] })
  })

  it('keep nothing back where somebody has it for good', () => {
    const keeps: [string, Standing] = ['a-0', { state: 'busy', remains: true }]
    expect(run([held('a', ['gpu0'])], [claim('b', { count: 2 }), claim('c')], [keeps]).grants).toEqual({
      'c-0': ['gpu1'],
    })
    const resting = held('a', ['gpu0'], 20, { active: false })
    const both = [resting, held('x', ['gpu1'], 20)]
    const shares = [claim('b', { share: 15 }), claim('c', { share: 4 })]
    expect(run(both, shares, [['a-0', { state: 'idle', offloadMs: 1 }]]).grants).toEqual({
      'b-0': ['gpu0'],
      'c-0': ['gpu1'],
    })
  })

  it('keep nothing back where they could never be served', () => {
    expect(run([], [claim('a', { share: 25 }), claim('b')]).grants).toEqual({ 'b-0': ['gpu0'] })
  })

  it('do not each have somebody sent away where those who leave already are enough', () => {
    const holdings = [held('a', ['gpu0']), held('b', ['gpu1'])]
    const standings: [string, Standing][] = [['a-0', { state: 'leaving' }], idle('b', 1)]
    expect(run(holdings, [claim('c')], standings).victims).toEqual([])
    expect(run(holdings, [claim('c'), claim('d')], standings).victims).toEqual(['stop b-0'])
  })
})
