import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { GpuRequest } from '../../../../orchestrator/domain/manifest.ts'
import type { Standing, Victim } from '../../../../orchestrator/lifecycle/resources/eviction.ts'
import type { Claim, Machine, Placement } from '../../../../orchestrator/lifecycle/resources/holdings.ts'
import { Ledger } from '../../../../orchestrator/lifecycle/resources/ledger.ts'
import { inOrder, schedule } from '../../../../orchestrator/lifecycle/resources/schedule.ts'

/** Any machine, any claims, holders that do anything in any order: what must hold of the ledger whatever happens. */

const runs = (numRuns: number) => ({
  seed: Number(process.env.BERTH_TEST_SEED ?? 20260101),
  numRuns: Number(process.env.BERTH_TEST_RUNS ?? numRuns),
})

const machines: fc.Arbitrary<Machine> = fc.record({
  devices: fc
    .array(fc.option(fc.integer({ min: 8, max: 24 }), { nil: undefined, freq: 4 }), { maxLength: 3 })
    .map((sizes) =>
      sizes.map((sizeBytes, index) => ({ id: `gpu${index}`, ...(sizeBytes === undefined ? {} : { sizeBytes }) })),
    ),
  memoryBytes: fc.constantFrom(Number.POSITIVE_INFINITY, 40),
})

interface WantedGpu {
  readonly count: number
  readonly optional: boolean
  readonly memoryBytes: number | undefined
}

/** Each fits an empty machine. */
const claimsOn = (machine: Machine): fc.Arbitrary<readonly Claim[]> => {
  const smallest = Math.min(...machine.devices.map(({ sizeBytes }) => sizeBytes ?? Number.POSITIVE_INFINITY), 24)
  const gpu = fc.record({
    count: fc.integer({ min: 1, max: Math.max(1, machine.devices.length) }),
    memoryBytes: fc.option(fc.integer({ min: 1, max: smallest }), { nil: undefined }),
    optional: fc.boolean(),
  })
  const claim = fc.record({
    gpu: fc.option(gpu, { nil: undefined, freq: 5 }),
    memoryBytes: fc.integer({ max: 60, min: 0 }),
    urgent: fc.boolean(),
  })
  return fc.array(claim, { minLength: 1, maxLength: 7 }).map((all) =>
    all.map(({ gpu: wanted, memoryBytes, urgent }, index): Claim => {
      const module = `m${index % 5}`
      return { module, replica: `${module}-${index}`, memoryBytes, urgent, ...(wanted ? { gpu: request(wanted) } : {}) }
    }),
  )
}

function request({ count, optional, memoryBytes }: WantedGpu): GpuRequest {
  return { count, optional, ...(memoryBytes === undefined ? {} : { memoryBytes }) }
}

type Step =
  | { readonly do: 'place' | 'withdraw' | 'busy' | 'idle' | 'rest' | 'resume' | 'stop'; readonly which: number }
  | { readonly do: 'look' }
const which = fc.nat(20)
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('place' as const), which }) },
    {
      weight: 5,
      arbitrary: fc.record({
        do: fc.constantFrom('withdraw', 'busy', 'idle', 'rest', 'resume', 'stop') as fc.Arbitrary<'rest'>,
        which,
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('look' as const) }) },
  ),
  { maxLength: 60 },
)

const worlds = machines.chain((machine) =>
  fc.record({ machine: fc.constant(machine), claims: claimsOn(machine), steps }),
)

/** Holders that do what they are told, and count how they stand. */
class World {
  readonly ledger: Ledger
  readonly placed = new Map<string, Placement>()
  readonly standings = new Map<string, Standing>()
  readonly machine: Machine
  readonly claims: readonly Claim[]
  nowMs = 0

  constructor(machine: Machine, claims: readonly Claim[]) {
    this.machine = machine
    this.claims = claims
    this.ledger = new Ledger(() => machine)
  }

  do(step: Step): void {
    this.nowMs += 1
    if (step.do === 'look') {
      for (const victim of this.ledger.look(() => this.standings).victims) this.yield(victim)
    } else {
      const claim = this.claims[step.which % this.claims.length]
      if (claim) this.act(step.do, claim)
    }
    this.check()
  }

  act(what: Exclude<Step['do'], 'look'>, claim: Claim): void {
    const { replica } = claim
    const lives = this.placed.has(replica)
    if (what === 'place' && !lives) this.place(claim)
    if (what === 'withdraw') this.ledger.withdraw(replica)
    if (what === 'busy' && lives) this.standings.set(replica, { state: 'busy' })
    if (what === 'idle' && lives) this.standings.set(replica, { state: 'idle', offloadMs: 5, stopMs: 9 })
    if (what === 'rest' && lives && this.standings.get(replica)?.state === 'idle') {
      this.ledger.rest(replica, this.nowMs)
      this.standings.set(replica, { state: 'idle', stopMs: 9 })
    }
    if (what === 'resume' && lives && this.ledger.resume(replica, claim.urgent, () => this.standings).granted)
      this.standings.set(replica, { state: 'busy' })
    if (what === 'stop' && lives) this.stop(replica)
  }

  place(claim: Claim): void {
    const placed = this.ledger.place(claim, () => this.standings)
    if (!placed.granted) return
    this.placed.set(claim.replica, placed.placement)
    this.standings.set(claim.replica, { state: 'busy' })
  }

  yield({ replica, what }: Victim): void {
    expect(this.standings.get(replica)?.state).toBe('idle')
    if (what === 'stop') return this.stop(replica)
    expect(this.ledger.holding(replica)).toMatchObject({ active: true, shareBytes: expect.anything() })
    this.act('rest', this.claimOf(replica))
  }

  stop(replica: string): void {
    this.ledger.release(replica, this.nowMs)
    this.placed.delete(replica)
    this.standings.delete(replica)
  }

  claimOf(replica: string): Claim {
    const claim = this.claims.find((each) => each.replica === replica)
    if (!claim) throw new Error(`no claim ${replica}`)
    return claim
  }

  check(): void {
    const { holdings } = this.ledger
    for (const device of this.machine.devices) {
      const holders = holdings.filter(({ devices }) => devices.includes(device.id))
      const alone = holders.filter(({ shareBytes }) => shareBytes === undefined)
      if (alone.length > 0) expect(holders).toHaveLength(1)
      const shared = holders.reduce((sum, { active, shareBytes = 0 }) => sum + (active ? shareBytes : 0), 0)
      expect(shared).toBeLessThanOrEqual(device.sizeBytes ?? 0)
    }
    const memory = holdings.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
    expect(memory).toBeLessThanOrEqual(this.machine.memoryBytes)
    for (const [replica, { devices }] of this.placed) {
      const { gpu } = this.claimOf(replica)
      expect([0, gpu?.count ?? 0]).toContain(devices.length)
      if (gpu && !gpu.optional && this.machine.devices.length > 0) expect(devices).toHaveLength(gpu.count)
      expect(new Set(devices).size).toBe(devices.length)
    }
    for (const { replica } of this.ledger.waiting) {
      if (this.placed.has(replica)) expect(this.ledger.holding(replica)?.active).toBe(false)
    }
  }
}

describe('the ledger', () => {
  it('never gives away what is not there, and never sends away who is in use', () => {
    fc.assert(
      fc.property(worlds, ({ machine, claims, steps: all }) => {
        const world = new World(machine, claims)
        for (const step of all) world.do(step)
      }),
      runs(300),
    )
  })

  it('serves everybody in the end, once holders come to rest', () => {
    fc.assert(
      fc.property(worlds, ({ machine, claims, steps: all }) => {
        const world = new World(machine, claims)
        for (const step of all) world.do(step)
        for (const claim of claims) if (!world.placed.has(claim.replica)) world.place(claim)
        // Everybody is done with what he has, and whoever waited is served for a moment.
        for (let round = 0; round < claims.length * 4; round += 1) {
          for (const replica of world.placed.keys()) world.act('idle', world.claimOf(replica))
          const claims = world.ledger.waiting
          const { grants, victims } = world.ledger.look(() => world.standings)
          for (const victim of victims) world.yield(victim)
          for (const { replica, pinned } of claims) {
            if (!grants.has(replica)) continue
            if (pinned) world.act('resume', world.claimOf(replica))
            else world.place(world.claimOf(replica))
          }
          world.check()
        }
        expect(world.ledger.waiting.filter(({ module }) => !sharesItsModule(claims, module))).toEqual([])
      }),
      runs(200),
    )
  })

  it('decides the same for those in front, whoever stands behind them', () => {
    fc.assert(
      fc.property(worlds, ({ machine, claims, steps: all }) => {
        const world = new World(machine, claims)
        for (const step of all) world.do(step)
        const { holdings } = world.ledger
        const waiting = inOrder(claims.filter(({ replica }) => !world.placed.has(replica)))
        const whole = schedule(machine, holdings, waiting, () => world.standings)
        for (let length = 0; length < waiting.length; length += 1) {
          const front = schedule(machine, holdings, waiting.slice(0, length), () => world.standings)
          for (const [replica, placement] of front.grants) expect(whole.grants.get(replica)).toEqual(placement)
          for (const [replica, shortage] of front.shortages) expect(whole.shortages.get(replica)).toEqual(shortage)
          expect(whole.victims.slice(0, front.victims.length)).toEqual(front.victims)
        }
        expect(schedule(machine, holdings, waiting, () => world.standings)).toEqual(whole)
      }),
      runs(200),
    )
  })

  it('sends nobody away whom it could have spared', () => {
    fc.assert(
      fc.property(worlds, ({ machine, claims, steps: all }) => {
        const world = new World(machine, claims)
        for (const step of all) world.do(step)
        const claim = claims.find(({ replica }) => !world.placed.has(replica))
        if (!claim) return
        const { holdings } = world.ledger
        const { victims } = schedule(machine, holdings, [claim], () => world.standings)
        for (const spared of victims) {
          // The others alone do not make the place.
          const rest = victims.filter((victim) => victim !== spared)
          const left = holdings.flatMap((holding) => {
            const victim = rest.find(({ replica }) => replica === holding.replica)
            if (!victim) return [holding]
            return victim.what === 'stop' ? [] : [{ ...holding, active: false }]
          })
          expect(schedule(machine, left, [claim], () => new Map()).grants.size).toBe(0)
        }
      }),
      runs(200),
    )
  })
})

/** A module does not make room for itself: its second replica may wait for the first for ever. */
function sharesItsModule(claims: readonly Claim[], module: string): boolean {
  return claims.filter((claim) => claim.module === module).length > 1
}
