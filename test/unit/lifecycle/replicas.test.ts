import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { testDefinition } from '../../support/definitions.ts'
import { type Asked, createRig, everythingWorks, type Rig, settled } from './rig.ts'

const scaled = (min: number, max: number) => ({ manifest: { scale: { min, max } } })

const ids = (rig: Rig, state = 'ready') =>
  [...rig.state.replicas.values()].filter((replica) => replica.state === state).map(({ id }) => id)

async function started(options: Parameters<typeof createRig>[0]): Promise<Rig> {
  const rig = createRig(options)
  rig.writer.post({ type: 'tick' })
  await everythingWorks(rig)
  return rig
}

const exit1 = new BerthError('WORKLOAD_EXITED', 'exit code 1')
const generationOf = (rig: Rig, id: string) => rig.state.replicas.get(id)?.generation ?? 0

describe('replicas that always run', () => {
  it('start in parallel, each under an id of its own', async () => {
    const rig = createRig(scaled(3, 3))
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    expect(rig.effects.calls.filter(({ kind }) => kind === 'start').map(({ replica }) => replica?.id)).toEqual([
      'mod-0',
      'mod-1',
      'mod-2',
    ])
  })

  it('that crash come back under their own id, each after a back-off of its own', async () => {
    const rig = await started(scaled(2, 2))
    const second = rig.state.replicas.get('mod-1')
    rig.writer.post({
      type: 'exited',
      replica: 'mod-1',
      generation: second?.generation ?? 0,
      error: new BerthError('WORKLOAD_EXITED', 'exit code 1'),
    })
    await settled()
    expect(ids(rig, 'idle')).toEqual(['mod-0'])
    rig.clock.advance(500)
    await everythingWorks(rig)
    expect(ids(rig, 'idle')).toEqual(['mod-0', 'mod-1'])
    expect(rig.state.replicas.get('mod-0')?.failure.count).toBe(0)
    expect(rig.state.replicas.get('mod-1')).toMatchObject({ restarts: 1, failure: { count: 1 } })
  })

  it('are as many as a changed scale says: more start, the least useful drain', async () => {
    const rig = await started(scaled(1, 1))
    const held = rig.acquire()
    await everythingWorks(rig)
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(3, 3)) })
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(3)
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(1, 1)) })
    await everythingWorks(rig)
    expect([...rig.state.replicas.keys()]).toEqual(['mod-0'])
    expect(held.granted?.replica).toBe('mod-0')
  })

  it('drain without a lease cut short', async () => {
    const rig = await started(scaled(2, 2))
    const both = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    expect(both.map(({ granted }) => granted?.replica).sort()).toEqual(['mod-0', 'mod-1'])
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(1, 1)) })
    await settled()
    expect(rig.effects.count('stop')).toBe(0)
    for (const { granted } of both) granted?.release()
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(1)
  })

  it('do not keep a request waiting for the one that has failed most often', async () => {
    const rig = await started(scaled(2, 2))
    const fails = (id: string) =>
      rig.writer.post({ type: 'exited', replica: id, generation: generationOf(rig, id), error: exit1 })
    for (let count = 0; count < 7; count += 1) {
      fails('mod-0')
      rig.clock.advance(55_000)
      await everythingWorks(rig)
    }
    fails('mod-0')
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(0, 2)) })
    fails('mod-1')
    const asked = rig.acquire()
    rig.clock.advance(1_000)
    await everythingWorks(rig)
    expect(asked.granted?.replica).toBe('mod-1')
  })
})

describe('a module scaled to nothing', () => {
  it('runs none and refuses requests, saying how to scale it', async () => {
    const rig = await started(scaled(1, 1))
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(0, 0)) })
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(0)
    const asked = rig.acquire()
    await settled()
    expect(asked.error).toMatchObject({ code: 'MODULE_DISABLED' })
    expect(asked.error?.message).toContain('berth scale mod=0..1')
  })

  it('starts again when it may', async () => {
    const rig = await started(scaled(0, 0))
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(0, 4)) })
    const asked = rig.acquire()
    await everythingWorks(rig)
    expect(asked.granted).toBeDefined()
  })
})

describe('balancing', () => {
  it('gives each request to the replica with the least outstanding', async () => {
    const rig = await started(scaled(3, 3))
    const all = Array.from({ length: 9 }, () => rig.acquire('m', { maxInflight: 3 }))
    await everythingWorks(rig)
    const more = Array.from({ length: 9 - all.filter(({ granted }) => granted).length }, () =>
      rig.acquire('m', { maxInflight: 3 }),
    )
    await everythingWorks(rig)
    expect(more.every(({ granted }) => granted)).toBe(true)
    expect([...rig.state.replicas.values()].map(({ inflight }) => inflight)).toEqual([3, 3, 3])
    for (const { granted } of all.filter((asked) => asked.granted?.replica === 'mod-1')) granted?.release()
    const next = rig.writer.acquireNow('m', 3)
    expect(next?.replica).toBe('mod-1')
  })

  it('lets each have its turn where all have as little', async () => {
    const rig = await started(scaled(3, 3))
    for (const asked of [rig.acquire(), rig.acquire(), rig.acquire()]) asked.lease.then((lease) => lease.release())
    await everythingWorks(rig)
    const three = [0, 1, 2].map(() => rig.acquire('m', { maxInflight: 1 }))
    await everythingWorks(rig)
    for (const { granted } of three) granted?.release()
    const used = new Set<string>()
    for (let turn = 0; turn < 6; turn += 1) {
      const lease = rig.writer.acquireNow('m', 1)
      used.add(lease?.replica ?? '')
      lease?.release()
    }
    expect([...used].sort()).toEqual(['mod-0', 'mod-1', 'mod-2'])
  })
})

describe('a model on several replicas', () => {
  it('is loaded on a further one that does nothing when those that have it are full', async () => {
    const rig = await started(scaled(2, 2))
    const first = rig.acquire()
    await everythingWorks(rig)
    expect(rig.effects.count('load')).toBe(1)
    const second = rig.acquire()
    await everythingWorks(rig)
    expect([first.granted?.replica, second.granted?.replica].sort()).toEqual(['mod-0', 'mod-1'])
  })

  it('is not loaded once more for those whom a load under way will serve', async () => {
    const rig = await started(scaled(2, 2))
    rig.acquire('m', { maxInflight: 2 })
    rig.acquire('m', { maxInflight: 2 })
    await settled()
    expect(rig.effects.count('load')).toBe(1)
  })

  it('is offloaded on all of them when that is asked for', async () => {
    const rig = await started(scaled(2, 2))
    const both = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    for (const { granted } of both) granted?.release()
    const offload = rig.work((signal) => rig.writer.offload(['m'], signal))
    await everythingWorks(rig)
    expect(offload.names).toEqual(['m'])
    expect([...rig.state.replicas.values()].map(({ models }) => models.size)).toEqual([0, 0])
  })

  it('gets the configuration of an explicit load everywhere', async () => {
    const rig = await started(scaled(2, 2))
    const both = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    for (const { granted } of both) granted?.release()
    rig.work((signal) => rig.writer.load({ m: { size: 9 } }, signal))
    await everythingWorks(rig)
    const again = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    expect(again.every(({ granted }) => granted)).toBe(true)
    const sizes = rig.effects.calls.filter(({ kind }) => kind === 'load').map(({ models }) => models?.m)
    expect(sizes.slice(-2)).toEqual([{ size: 9 }, { size: 9 }])
  })
})

describe('changed files of several replicas', () => {
  const next = testDefinition({ specHash: 'spec-2', ...scaled(2, 2) })

  it('replace them one by one; never fewer serve than before', async () => {
    const rig = await started(scaled(2, 2))
    const both = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    for (const { granted } of both) granted?.release()
    let fewest = 2
    const observeFewest = () => {
      fewest = Math.min(
        fewest,
        [...rig.state.replicas.values()].filter(({ state, drain }) => state === 'ready' && !drain).length,
      )
    }
    rig.effects.onCall = observeFewest
    rig.writer.post({ type: 'define', definition: next })
    await everythingWorks(rig)
    expect([...rig.state.replicas.values()].map(({ specHash, state }) => [specHash, state])).toEqual([
      ['spec-2', 'ready'],
      ['spec-2', 'ready'],
    ])
    expect(fewest).toBe(2)
  })

  it('leave nothing behind that counts a later replica out, whose id an outdated one had', async () => {
    const changed = (min: number, max: number) => testDefinition({ ...scaled(min, max), specHash: 'spec-2' })
    const rig = await started(scaled(1, 1))
    const held = rig.acquire()
    await everythingWorks(rig)
    rig.writer.post({ type: 'define', definition: changed(1, 1) })
    await everythingWorks(rig)
    held.granted?.release()
    await everythingWorks(rig)
    expect([...rig.state.replicas.keys()]).toEqual(['mod-1'])
    rig.writer.post({ type: 'define', definition: changed(2, 2) })
    await everythingWorks(rig)
    expect([...rig.state.replicas.keys()].sort()).toEqual(['mod-0', 'mod-1'])
    rig.writer.post({ type: 'define', definition: changed(1, 1) })
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(1)
  })

  it('that are changed back while the new one has failed leave the old one alone, and start no other', async () => {
    const rig = await started(scaled(1, 1))
    rig.acquire()
    await everythingWorks(rig)
    rig.writer.post({ type: 'define', definition: testDefinition({ ...scaled(1, 1), specHash: 'spec-2' }) })
    await rig.prepared()
    await rig.failing('start', new BerthError('WORKLOAD_EXITED', 'exit code 1'))
    expect(rig.state.replicas.get('mod-1')?.state).toBe('failed')
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(1, 1)) })
    await everythingWorks(rig)
    expect([...rig.state.replicas.keys()]).toEqual(['mod-0'])
  })
})

describe('a restart of several replicas', () => {
  it('goes from one to the next, so that the others serve', async () => {
    const rig = await started(scaled(3, 3))
    let fewest = 3
    rig.effects.onCall = ({ kind }) => {
      if (kind !== 'stop' && kind !== 'start') return
      fewest = Math.min(fewest, ids(rig, 'idle').length)
    }
    rig.writer.post({ type: 'restart' })
    await everythingWorks(rig)
    expect([...rig.state.replicas.values()].every(({ generation }) => generation === 2)).toBe(true)
    expect(rig.state.replicas.size).toBe(3)
    expect(fewest).toBe(2)
  })

  it('is over when each has been replaced once, whatever the counts of their generations', async () => {
    const rig = await started(scaled(2, 2))
    for (let count = 0; count < 5; count += 1) {
      rig.writer.post({ type: 'exited', replica: 'mod-0', generation: generationOf(rig, 'mod-0'), error: exit1 })
      rig.clock.advance(60_000)
      await everythingWorks(rig)
    }
    const before = rig.effects.count('start')
    rig.writer.post({ type: 'restart' })
    await everythingWorks(rig)
    expect(rig.effects.count('start')).toBe(before + 2)
  })
})

describe('autoscaling', () => {
  async function underLoad(max: number): Promise<{ readonly rig: Rig; readonly all: Asked[] }> {
    const rig = await started(scaled(0, max))
    const all = [rig.acquire()]
    await everythingWorks(rig)
    all.push(...[1, 2, 3].map(() => rig.acquire()))
    await settled()
    return { rig, all }
  }

  it('adds a replica when requests have waited for a while, and not before', async () => {
    const { rig, all } = await underLoad(4)
    rig.clock.advance(999)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(1)
    rig.clock.advance(1)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(2)
    expect(all.filter(({ granted }) => granted)).toHaveLength(2)
    expect(rig.told.some((line) => line.startsWith('scaled'))).toBe(true)
  })

  it('waits for the start under way before it adds more, however slow that is', async () => {
    const { rig } = await underLoad(4)
    rig.clock.advance(1_000)
    await settled()
    rig.clock.advance(50_000)
    await settled()
    expect(rig.effects.count('start')).toBe(2)
    await everythingWorks(rig)
    rig.clock.advance(1_000)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(4)
  })

  it('goes no further than scale.max', async () => {
    const { rig } = await underLoad(2)
    for (let seconds = 0; seconds < 10; seconds += 1) {
      rig.clock.advance(1_000)
      await everythingWorks(rig)
    }
    expect(rig.state.replicas.size).toBe(2)
  })

  it('takes replicas away when fewer were enough for long, not for a short lull', async () => {
    const { rig, all } = await underLoad(2)
    rig.clock.advance(1_000)
    await everythingWorks(rig)
    for (const { granted } of all) granted?.release()
    await everythingWorks(rig)
    for (const { granted } of all) granted?.release()
    await everythingWorks(rig)
    rig.clock.advance(200_000)
    const burst = [rig.acquire(), rig.acquire()]
    await everythingWorks(rig)
    for (const { granted } of burst) granted?.release()
    rig.clock.advance(200_000)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(2)
    rig.clock.advance(100_000)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(1)
  })

  it('follows scale.target_inflight where a replica takes more at once than it should', async () => {
    const rig = await started({ manifest: { scale: { min: 0, max: 4, targetInflight: 2 } } })
    const all = [rig.acquire('m', { maxInflight: 100 })]
    await everythingWorks(rig)
    all.push(...Array.from({ length: 5 }, () => rig.acquire('m', { maxInflight: 100 })))
    await settled()
    expect(all.every(({ granted }) => granted)).toBe(true)
    rig.clock.advance(1_000)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(2)
  })

  it('goes down step by step, and does nothing in between', async () => {
    const rig = await started(scaled(0, 4))
    const all = Array.from({ length: 4 }, () => rig.acquire())
    for (let seconds = 0; seconds < 8; seconds += 1) {
      rig.clock.advance(1_000)
      await everythingWorks(rig)
    }
    expect(all.filter(({ granted }) => granted)).toHaveLength(4)
    all[0]?.granted?.release()
    rig.clock.advance(100_000)
    for (const { granted } of all) granted?.release()
    expect(rig.clock.advance(250_000), 'timers').toBeLessThan(10)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(3)
    expect(rig.clock.advance(300_000), 'timers').toBeLessThan(10)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(1)
  })

  it('watches the load anew when its limits change', async () => {
    const rig = await started(scaled(0, 4))
    const all = Array.from({ length: 4 }, () => rig.acquire())
    for (let seconds = 0; seconds < 8; seconds += 1) {
      rig.clock.advance(1_000)
      await everythingWorks(rig)
    }
    all[0]?.granted?.release()
    rig.clock.advance(100_000)
    all[1]?.granted?.release()
    rig.writer.post({ type: 'define', definition: testDefinition(scaled(0, 3)) })
    expect(rig.clock.advance(400_000), 'timers').toBeLessThan(10)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(2)
  })

  it('has no replica stopped as idle that it would start again', async () => {
    const rig = await started({ manifest: { scale: { min: 0, max: 2, targetInflight: 1 }, stopTtlMs: 5_000 } })
    const both = [rig.acquire('m', { maxInflight: 4 }), rig.acquire('m', { maxInflight: 4 })]
    await everythingWorks(rig)
    for (let count = 0; count < 10; count += 1) {
      rig.clock.advance(5_000)
      await everythingWorks(rig)
    }
    expect(rig.effects.count('start')).toBe(2)
    for (const { granted } of both) granted?.release()
    rig.clock.advance(5_000)
    await everythingWorks(rig)
    expect(rig.state.replicas.size).toBe(0)
  })
})
