import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../../orchestrator/domain/errors.ts'
import type { GpuRequest } from '../../../../orchestrator/domain/manifest.ts'
import type { Machine } from '../../../../orchestrator/lifecycle/resources/holdings.ts'
import { Resources } from '../../../../orchestrator/lifecycle/resources/resources.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { type Asked, createRig, type EffectCall, type Rig, settled } from '../rig.ts'

/**
 * Several modules on a machine that is too small for all of them: requests come and go, effects end in any order, well or not.
 * No device is ever promised twice, nobody in use is sent away, and in the end everybody is served.
 */
const machine: Machine = {
  devices: [
    { id: 'gpu0', sizeBytes: 24 },
    { id: 'gpu1', sizeBytes: 24 },
  ],
  memoryBytes: 100,
}

const runs = (numRuns: number) => ({
  seed: Number(process.env.BERTH_TEST_SEED ?? 20260101),
  numRuns: Number(process.env.BERTH_TEST_RUNS ?? numRuns),
})

const gpus: fc.Arbitrary<GpuRequest | undefined> = fc.constantFrom(
  undefined,
  { count: 1, optional: false },
  { count: 2, optional: false },
  { count: 1, optional: true },
  { count: 1, optional: false, memoryBytes: 16 },
  { count: 1, optional: false, memoryBytes: 8 },
  { count: 2, optional: false, memoryBytes: 12 },
)
const modules = fc.array(
  fc.record({ gpu: gpus, memoryBytes: fc.constantFrom(0, 30, 60), max: fc.constantFrom(1, 1, 2), min: fc.constant(0) }),
  { minLength: 2, maxLength: 5 },
)

interface Step {
  readonly do: 'acquire' | 'release' | 'leave' | 'succeed' | 'fail' | 'advance' | 'redefine' | 'restart'
  readonly which: number
}
const steps: fc.Arbitrary<readonly Step[]> = fc.array(
  fc.record({
    do: fc.oneof(
      { weight: 6, arbitrary: fc.constant('acquire' as const) },
      { weight: 5, arbitrary: fc.constant('release' as const) },
      { weight: 12, arbitrary: fc.constant('succeed' as const) },
      {
        weight: 1,
        arbitrary: fc.constantFrom('leave', 'fail', 'advance', 'redefine', 'restart') as fc.Arbitrary<'fail'>,
      },
    ),
    which: fc.nat(30),
  }),
  { minLength: 40, maxLength: 120 },
)

describe('modules that share one machine', () => {
  it('never have what another has, and are all served in the end', async () => {
    await fc.assert(
      fc.asyncProperty(modules, steps, async (wanted, all) => {
        const world = new World(wanted)
        try {
          for (const step of all) {
            world.act(step)
            await settled()
            world.check()
          }
          await world.finish()
        } finally {
          for (const rig of world.rigs) rig.writer.close()
        }
      }),
      runs(80),
    )
  }, 60_000)
})

describe('five modules that do not fit together', () => {
  const alone = { count: 1, optional: false }
  const shared = { count: 1, optional: false, memoryBytes: 16 }
  const five = [alone, alone, { count: 2, optional: false }, shared, shared].map((gpu) => ({
    gpu,
    memoryBytes: 0,
    max: 1,
    min: 0,
  }))
  const busy: fc.Arbitrary<readonly Step[]> = fc.array(
    fc.record({
      do: fc.oneof(
        { weight: 3, arbitrary: fc.constant('acquire' as const) },
        { weight: 3, arbitrary: fc.constant('release' as const) },
        { weight: 8, arbitrary: fc.constant('succeed' as const) },
      ),
      which: fc.nat(30),
    }),
    { minLength: 60, maxLength: 160 },
  )

  it('are all served, in whatever order requests come', async () => {
    await fc.assert(
      fc.asyncProperty(busy, async (all) => {
        const world = new World(five)
        try {
          for (const step of all) {
            world.act(step)
            await settled()
            world.check()
          }
          await world.finish()
        } finally {
          for (const rig of world.rigs) rig.writer.close()
        }
      }),
      runs(40),
    )
  }, 60_000)
})

class World {
  readonly clock = new FakeClock()
  readonly resources = new Resources({ machine: () => machine, now: () => this.clock.now() })
  readonly rigs: readonly Rig[]
  readonly asked: Asked[] = []
  readonly released = new Set<Asked>()
  #specs = 1

  constructor(wanted: readonly { gpu: GpuRequest | undefined; memoryBytes: number; max: number; min: number }[]) {
    this.rigs = wanted.map(({ gpu, memoryBytes, max, min }, index) =>
      createRig({
        resources: this.resources,
        clock: this.clock,
        manifest: {
          id: `m${index}`,
          ...(gpu === undefined ? {} : { gpu }),
          resources: memoryBytes === 0 ? {} : { memoryBytes },
          scale: { min, max },
          queue: { limit: 1_000, timeoutMs: Number.POSITIVE_INFINITY },
        },
      }),
    )
    for (const rig of this.rigs) rig.effects.onCall = (call) => this.#allowed(rig, call)
  }

  /** Nothing is stopped, and no model offloaded, under a lease. */
  #allowed(rig: Rig, { kind, replica }: EffectCall): void {
    if (kind !== 'stop' && kind !== 'offload') return
    const record = replica && rig.state.replicas.get(replica.id)
    if (record?.generation === replica?.generation) expect(record?.inflight ?? 0).toBe(0)
  }

  act(step: Step): void {
    const rig = this.rigs[step.which % this.rigs.length] as Rig
    switch (step.do) {
      case 'acquire':
        this.asked.push(rig.acquire())
        return
      case 'release':
        return this.#release(step.which)
      case 'leave':
        this.asked[step.which % Math.max(1, this.asked.length)]?.abort.abort()
        return
      case 'succeed':
      case 'fail':
        return this.#end(step.which, step.do === 'succeed')
      case 'advance':
        this.clock.advance(40_000)
        return
      case 'redefine':
        this.#specs += 1
        rig.writer.post({ type: 'define', definition: { ...rig.definition, specHash: `spec-${this.#specs}` } })
        return
      case 'restart':
        rig.writer.post({ type: 'restart' })
    }
  }

  #release(which: number): void {
    const held = this.asked.filter((asked) => asked.granted && !this.released.has(asked))
    const one = held[which % Math.max(1, held.length)]
    if (!one) return
    this.released.add(one)
    one.granted?.release()
  }

  #end(which: number, well: boolean): void {
    const open = this.rigs.flatMap((rig) =>
      rig.effects.calls.filter((call) => !call.settled).map((call) => ({ rig, call })),
    )
    const one = open[which % Math.max(1, open.length)]
    if (!one) return
    const { call, rig } = one
    if (!well && call.kind !== 'stop') return call.reject(new BerthError('START_TIMEOUT', 'no'))
    const answers = {
      prepare: undefined,
      stop: undefined,
      start: rig.workload(call.replica?.generation ?? 0, call.devices),
      answer: { state: 'idle', models: [] },
      health: { state: 'ready', models: ['m'] },
      load: call.names ?? [],
      offload: call.names ?? [],
    } as const
    ;(call as EffectCall<never>).resolve(answers[call.kind] as never)
  }

  #progress(): string {
    const ended = this.rigs.map(({ effects }) => effects.calls.filter(({ settled: over }) => over).length)
    return JSON.stringify([this.released.size, this.rigs.map(({ effects }) => effects.calls.length), ended])
  }

  check(): void {
    for (const { sizeBytes = 0, holders } of this.resources.devices()) {
      if (holders.some(({ exclusive }) => exclusive)) expect(holders).toHaveLength(1)
      const held = holders.reduce((sum, { exclusive, heldBytes = 0 }) => sum + (exclusive ? 0 : heldBytes), 0)
      expect(held).toBeLessThanOrEqual(sizeBytes)
    }
  }

  /** Everything ends well and every lease is given back: nobody may be left waiting. */
  async finish(): Promise<void> {
    for (let quiet = 0; quiet < 3; ) {
      const before = this.#progress()
      this.#end(0, true)
      this.#release(0)
      await settled()
      this.check()
      if (this.#progress() !== before) quiet = 0
      else {
        // Back-offs end.
        quiet += 1
        this.clock.advance(120_000)
        await settled()
      }
    }
    const left = this.asked.filter(({ granted, error }) => !granted && !error)
    expect(left).toHaveLength(0)
    for (const rig of this.rigs) expect([rig.state.waiters.length, rig.state.shortages.size]).toEqual([0, 0])
  }
}
