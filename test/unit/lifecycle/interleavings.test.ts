import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { BerthError, type ErrorCode } from '../../../orchestrator/domain/errors.ts'
import { type Priority, priorities } from '../../../orchestrator/domain/priority.ts'
import { stays, type Waiter } from '../../../orchestrator/lifecycle/state.ts'
import { type TestDefinition, testDefinition } from '../../support/definitions.ts'
import { type Asked, type AskedWork, createRig, type EffectCall, type Rig, settled } from './rig.ts'

/**
 * Anything that can happen to a module, in any order: what must always hold is checked at every effect and after every
 * step, and in the end everybody has an answer.
 */

type Step =
  | { readonly do: 'acquire'; readonly model: string; readonly caller: string; readonly priority: Priority }
  | { readonly do: 'leave' | 'abandon'; readonly which: number }
  | { readonly do: 'release'; readonly which: number; readonly outcome: 'lost' | 'hung' | undefined }
  | { readonly do: 'load' | 'offload'; readonly model: string }
  | {
      readonly do: 'define'
      readonly spec: number
      readonly size: number
      readonly stopTtlMs: number
      readonly min: number
      readonly more: number
    }
  | { readonly do: 'want'; readonly wanted: 'enabled' | 'disabled' }
  | { readonly do: 'restart' | 'check' | 'engine-back' }
  | { readonly do: 'adopt'; readonly which: number; readonly outdated: boolean }
  | { readonly do: 'exit' | 'vanish'; readonly which: number }
  | { readonly do: 'succeed'; readonly which: number }
  | { readonly do: 'work' }
  | { readonly do: 'fail'; readonly which: number; readonly code: ErrorCode }
  | { readonly do: 'report'; readonly which: number; readonly models: readonly string[] }
  | { readonly do: 'advance'; readonly ms: number }

const model = fc.constantFrom('m', 'other')
const which = fc.nat(7)
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('acquire' as const),
      model,
      caller: fc.constantFrom('address:a', 'address:a', 'address:b'),
      priority: fc.constantFrom(...priorities, 'normal' as const, 'normal' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('leave' as const, 'abandon' as const), which }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('release' as const),
      which,
      outcome: fc.constantFrom(undefined, undefined, undefined, 'lost' as const, 'hung' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('load' as const, 'offload' as const), model }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('define' as const),
      spec: fc.integer({ min: 1, max: 2 }),
      size: fc.integer({ min: 1, max: 2 }),
      stopTtlMs: fc.constantFrom(Number.POSITIVE_INFINITY, 0, 5_000),
      min: fc.nat(2),
      more: fc.nat(3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('want' as const),
      wanted: fc.constantFrom('enabled' as const, 'enabled' as const, 'disabled' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom('restart' as const, 'check' as const, 'engine-back' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('adopt' as const), which: fc.nat(2), outdated: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('exit' as const, 'vanish' as const), which }) },
  { weight: 16, arbitrary: fc.record({ do: fc.constant('succeed' as const), which: fc.nat(2) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('work' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('fail' as const),
      which: fc.nat(2),
      code: fc.constantFrom<ErrorCode>('LOAD_FAILED', 'LOAD_TIMEOUT', 'ENGINE_UNAVAILABLE', 'RUNNER_UNREACHABLE'),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('report' as const), which: fc.nat(2), models: fc.subarray(['m', 'other']) }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('advance' as const),
      ms: fc.constantFrom(1, 400, 1_100, 2_500, 31_000, 61_000, 301_000),
    }),
  },
)

const most: Readonly<Record<string, number>> = { m: 1, other: 2 }

class World {
  readonly rig: Rig
  readonly #external: boolean
  readonly asked: (Asked & Pick<Waiter, 'model' | 'caller' | 'priority'>)[] = []
  readonly works: AskedWork[] = []
  /** Generations whose workload may exist (`id#generation`), with the id of their replica. */
  readonly #live = new Map<string, string>()
  readonly #waits = new Set<Promise<unknown>>()

  /** `external`: its containers are somebody else's. */
  constructor(external: boolean) {
    this.#external = external
    this.rig = createRig(
      described({ spec: 1, size: 1, stopTtlMs: Number.POSITIVE_INFINITY, min: 0, more: 1 }, external),
    )
    this.rig.effects.onCall = (call) => this.#onCall(call)
  }

  #onCall(call: EffectCall): void {
    const { calls } = this.rig.effects
    if (this.#external) expect(['prepare', 'start']).not.toContain(call.kind)
    const id = call.replica?.id ?? ''
    const generation = `${id}#${call.replica?.generation}`
    if (call.kind === 'start') {
      const failed = this.rig.told.filter((line) => line.endsWith('-> failed')).map((line) => line.split(' ')[0])
      const others = [...this.#live].filter(([other]) => !failed.includes(other))
      expect(
        others.filter(([, replica]) => replica === id),
        'generations of one replica that live when another is started',
      ).toEqual([])
      // One more than may run stands in while a changed module's replicas are replaced.
      expect(others.length, 'replicas at once').toBeLessThanOrEqual(mostReplicas)
      this.#live.set(generation, id)
    }
    if (call.kind === 'start' || call.kind === 'stop') this.#watchEnd(call, generation)
    if (call.kind === 'load' || call.kind === 'offload') {
      const busy = calls.filter(
        (other) =>
          other !== call &&
          !other.settled &&
          (other.kind === 'load' || other.kind === 'offload') &&
          other.replica?.id === id &&
          other.replica.generation === call.replica?.generation,
      )
      expect(
        busy.filter(({ signal }) => !signal?.aborted),
        'operations at once',
      ).toEqual([])
      expect(this.#replica(call.replica?.id)?.state).toBe(call.kind === 'load' ? 'loading' : 'offloading')
    }
    if (call.kind === 'offload') {
      const { models } = this.#replica(call.replica?.id) ?? {}
      for (const name of call.names ?? []) expect(models?.get(name)?.inflight ?? 0).toBe(0)
    }
  }

  #replica(id: string | undefined) {
    return this.rig.state.replicas.get(id ?? '')
  }

  /** A start that fails and a stop that has ended leave no workload. */
  #watchEnd(call: EffectCall, generation: string): void {
    const { resolve, reject } = call
    call.resolve = (answer) => {
      if (call.kind === 'stop') this.#live.delete(generation)
      resolve(answer as never)
    }
    call.reject = (error) => {
      this.#live.delete(generation)
      reject(error)
    }
  }

  async take(step: Step): Promise<void> {
    const { rig } = this
    let callsBefore = rig.effects.calls.length
    switch (step.do) {
      case 'acquire':
        this.#acquire(step)
        break
      case 'leave':
        pick(this.asked, step.which)?.abort.abort()
        break
      case 'abandon':
        pick(this.works, step.which)?.abort.abort()
        break
      case 'release':
        pick(this.#held(), step.which)?.release(step.outcome)
        break
      case 'load':
        this.works.push(rig.work((signal) => rig.writer.load({ [step.model]: { size: 9 } }, signal)))
        break
      case 'offload':
        this.works.push(rig.work((signal) => rig.writer.offload([step.model], signal)))
        break
      case 'define':
        rig.writer.post({
          type: 'define',
          definition: testDefinition(described(step, this.#external)),
        })
        break
      case 'want':
        rig.writer.post({ type: 'want', wanted: step.wanted })
        break
      case 'restart':
        rig.writer.post({ type: 'restart' })
        break
      case 'engine-back':
        rig.writer.post({ type: 'engine-back' })
        break
      case 'check':
        rig.writer.checkHealth()
        break
      case 'exit':
        this.#observe(step.which, 'exited')
        break
      case 'vanish':
        this.#observe(step.which, undefined)
        break
      case 'adopt':
        this.#adopt(step)
        break
      case 'succeed':
        this.#succeed(pick(this.#open(), step.which))
        break
      case 'work':
        await this.#work()
        callsBefore = rig.effects.calls.length
        break
      case 'fail':
        pick(this.#open(), step.which)?.reject(new BerthError(step.code, 'it failed'))
        break
      case 'report': {
        const call = pick(this.#open(), step.which)
        if (call?.kind === 'health' || call?.kind === 'answer') call.resolve({ state: 'ready', models: step.models })
        break
      }
      case 'advance':
        expect(rig.clock.advance(step.ms), 'timers').toBeLessThan(100)
        break
    }
    await settled()
    expect(rig.effects.calls.length - callsBefore, 'effects of one step').toBeLessThan(24)
    this.#check()
  }

  /** Everything that is under way succeeds, until nothing is: then there are no more replicas than there may be. */
  async #work(): Promise<void> {
    const { state } = this.rig
    for (let round = 0; this.#open().length > 0; round += 1) {
      expect(round, 'rounds until it comes to rest').toBeLessThan(60)
      for (const call of this.#open()) this.#succeed(call)
      await settled()
    }
    const leaves = [...state.replicas.values()].some(({ drain }) => drain !== undefined)
    const outdated = [...state.replicas.values()].some(({ specHash }) => specHash !== state.definition.specHash)
    if (leaves || outdated || this.#external || state.wanted !== 'enabled') return
    const { max } = state.definition.manifest.scale
    expect([...state.replicas.values()].filter(stays).length, 'replicas at rest').toBeLessThanOrEqual(max)
  }

  /** A listing in which one replica has ended, or isn't there any more. */
  #observe(which: number, state: 'exited' | undefined): void {
    const { rig } = this
    const chosen = pick([...rig.state.replicas.values()], which)
    rig.clock.advance(1)
    const listed = [...rig.state.replicas.values()].flatMap(({ id, generation }) => {
      const observed = rig.observed({ replica: id, generation })
      if (id !== chosen?.id) return [observed]
      return state ? [{ ...observed, state, exit: { code: 3 } }] : []
    })
    rig.writer.observe(listed, rig.clock.now())
  }

  #acquire({ model: name, caller, priority }: Pick<Waiter, 'model' | 'caller' | 'priority'>): void {
    const asked = {
      ...this.rig.acquire(name, { maxInflight: most[name] ?? 1, caller, priority }),
      model: name,
      caller,
      priority,
    }
    this.asked.push(asked)
    const wait = asked.lease.then(
      (lease) => {
        asked.granted = lease
        const earlier = this.asked
          .slice(0, this.asked.indexOf(asked))
          .filter((other) => other.model === name && other.caller === caller && other.priority === priority)
        expect(
          earlier.filter(({ granted, error }) => !granted && !error),
          'those of the same caller who came before',
        ).toEqual([])
        // After the grant the same event may have begun a load or an offload of another model.
        const replica = this.#replica(lease.replica)
        expect(replica?.generation).toBe(lease.generation)
        expect(['ready', 'loading', 'offloading']).toContain(replica?.state)
        expect(replica?.models.get(name)?.inflight).toBeGreaterThan(0)
      },
      (error: BerthError) => {
        asked.error = error
        expect(error.code, error.message).not.toBe('INTERNAL')
      },
    )
    this.#waits.add(wait)
    wait.finally(() => this.#waits.delete(wait)).catch((error: unknown) => this.problems.push(error))
  }

  readonly problems: unknown[] = []

  #adopt({ which, outdated }: { readonly which: number; readonly outdated: boolean }): void {
    const { rig } = this
    const replica = `mod-${which}`
    // As the plan has it: only a workload that nobody owns and that no newer one outlived.
    if (rig.state.wanted !== 'enabled' || rig.state.replicas.has(replica)) return
    if ([...this.#live.values()].includes(replica)) return
    const generation = rig.effects.nextGeneration(replica)
    this.#live.set(`${replica}#${generation}`, replica)
    const observed = rig.observed({ replica, generation, ...(outdated ? { specHash: 'spec-0' } : {}) })
    this.works.push(rig.work(() => rig.writer.adopt(observed, rig.workload(generation))))
  }

  #held() {
    return this.asked.flatMap(({ granted }) =>
      granted && !this.#released.has(granted) ? [this.#counting(granted)] : [],
    )
  }

  readonly #released = new Set<unknown>()

  #counting(lease: NonNullable<Asked['granted']>) {
    return {
      release: (outcome?: 'lost' | 'hung') => {
        this.#released.add(lease)
        lease.release(outcome)
        lease.release('hung')
      },
    }
  }

  #open(): EffectCall[] {
    return this.rig.effects.calls.filter((call) => !call.settled)
  }

  #succeed(call: EffectCall | undefined): void {
    if (!call) return
    const models = [...(this.#replica(call.replica?.id)?.models.keys() ?? [])]
    const answers = {
      prepare: () => undefined,
      start: () => this.rig.workload(call.replica?.generation ?? 0),
      answer: () => ({ state: 'idle', models: [] }),
      load: () => call.names,
      offload: () => call.names,
      stop: () => undefined,
      health: () => ({ state: 'ready', models }),
    }
    call.resolve(answers[call.kind]() as never)
  }

  #check(): void {
    expect(this.problems).toEqual([])
    const { state } = this.rig
    for (const replica of state.replicas.values()) {
      const held = this.asked.filter(
        ({ granted }) =>
          granted?.generation === replica.generation && granted.replica === replica.id && !this.#released.has(granted),
      )
      if (replica.state === 'ready' || replica.state === 'loading') expect(replica.inflight).toBe(held.length)
      expect(replica.inflight).toBeGreaterThanOrEqual(0)
      for (const [name, { inflight }] of replica.models) {
        expect(inflight, `leases on ${name}`).toBeGreaterThanOrEqual(0)
        expect(inflight, `leases on ${name}`).toBeLessThanOrEqual(most[name] ?? 1)
      }
    }
    const open = this.asked.filter(({ granted, error }) => !granted && !error)
    expect(state.waiters.filter(({ kind }) => kind === 'use').length, 'waiters that somebody waits on').toBe(
      open.length,
    )
  }

  /** Everything works from now on and everybody gives back what they have: nobody is left without an answer. */
  async drain(): Promise<void> {
    for (let round = 0; round < 200; round += 1) {
      for (const call of this.#open()) this.#succeed(call)
      for (const lease of this.#held()) lease.release()
      await settled()
      this.rig.clock.advance(1_000)
      if (this.#waits.size === 0 && this.works.every(({ over }) => over) && this.#open().length === 0) break
    }
    expect(this.problems).toEqual([])
    expect(
      this.asked.filter(({ granted, error }) => !granted && !error),
      'requests without an answer',
    ).toEqual([])
    expect(
      this.works.filter(({ over }) => !over),
      'loads, offloads and adoptions without an answer',
    ).toEqual([])
    this.rig.writer.post({ type: 'want', wanted: 'disabled' })
    for (let round = 0; round < 10; round += 1) {
      await settled()
      for (const call of this.#open()) this.#succeed(call)
      this.rig.clock.advance(31_000)
    }
    await settled()
    expect(this.rig.state.replicas.size, 'replicas of a disabled module').toBe(0)
    expect([...this.#live.keys()], 'workloads of a disabled module').toEqual([])
  }
}

/** `scale.max` is never more than this. */
const mostReplicas = 6

interface Described {
  readonly spec: number
  readonly size: number
  readonly stopTtlMs: number
  readonly min: number
  /** What `scale.max` is above `scale.min`; at least one may run. */
  readonly more: number
}

function described({ spec, size, stopTtlMs, min, more }: Described, external: boolean): TestDefinition {
  return {
    specHash: `spec-${spec}`,
    models: { m: { size }, other: {} },
    idleTtlMs: 20_000,
    manifest: {
      ...(external ? { source: { kind: 'external', reference: 'somebody else' } } : {}),
      stopTtlMs,
      scale: { min, max: Math.max(1, min + more) },
      queue: { limit: 5, timeoutMs: 60_000 },
    },
  }
}

function pick<T>(list: readonly T[], which: number): T | undefined {
  return list.length === 0 ? undefined : list[which % list.length]
}

describe('a module', () => {
  it.each([
    ['keeps its promises whatever happens in whatever order', false],
    ['of containers that somebody else runs does so too, and starts none', true],
  ])(
    '%s',
    async (_name, external) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 80, size: 'max' }), async (steps) => {
          const world = new World(external)
          for (const each of steps) await world.take(each)
          await world.drain()
        }),
        { seed: Number(process.env.BERTH_TEST_SEED ?? 20260101), numRuns: Number(process.env.BERTH_TEST_RUNS ?? 300) },
      )
    },
    60_000,
  )
})
