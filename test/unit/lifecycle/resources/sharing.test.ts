import { beforeEach, describe, expect, it } from 'vitest'
import { BerthError } from '../../../../orchestrator/domain/errors.ts'
import type { ModuleManifest } from '../../../../orchestrator/domain/manifest.ts'
import type { Machine } from '../../../../orchestrator/lifecycle/resources/holdings.ts'
import { Resources } from '../../../../orchestrator/lifecycle/resources/resources.ts'
import { FakeClock } from '../../../support/fake-clock.ts'
import { createRig, type Rig, settled } from '../rig.ts'

/** Several writers on one machine, each with effects that wait for the test. */

let machine: Machine
let clock: FakeClock
let resources: Resources
beforeEach(() => {
  machine = { devices: [{ id: 'gpu0', sizeBytes: 24 }], memoryBytes: Number.POSITIVE_INFINITY }
  clock = new FakeClock()
  resources = new Resources({ machine: () => machine, now: () => clock.now() })
})

const alone = { count: 1, optional: false }
const share = (memoryBytes: number) => ({ ...alone, memoryBytes })

function rig(id: string, more: Partial<ModuleManifest> = { gpu: alone }): Rig {
  return createRig({ resources, clock, manifest: { id, ...more } })
}

async function serve(each: Rig) {
  const asked = each.acquire()
  await settled()
  await up(each)
  return asked
}

/** Everything that a waiting request needs is done. */
async function up(each: Rig): Promise<void> {
  if (each.effects.calls.some(({ kind, settled: over }) => kind === 'prepare' && !over)) await each.prepared()
  if (!each.replica) await settled()
  if (each.replica?.state === 'starting') {
    await each.started()
    await each.answering()
  }
  if (each.replica?.state === 'loading') await each.loaded()
}

const holders = () => resources.devices().map(({ holders: all }) => all.map(({ replica }) => replica))

describe('a device that one has alone', () => {
  it('is given at the start, and the module that holds it is asked to go when it is idle', async () => {
    const a = rig('a')
    const b = rig('b')
    const first = await serve(a)
    expect(a.effects.calls.find(({ kind }) => kind === 'start')?.devices).toEqual(['gpu0'])

    const second = b.acquire()
    await b.prepared()
    expect(b.effects.count('start')).toBe(0)
    expect(b.state.shortages.get('b-0')?.shortage).toMatchObject({ of: 'gpu', holders: ['a'] })
    expect(a.effects.count('stop')).toBe(0)

    ;(await first.lease).release()
    await settled()
    expect(a.effects.count('stop')).toBe(1)
    expect(b.effects.count('start')).toBe(0)
    await a.stopped()
    expect(b.effects.open('start').devices).toEqual(['gpu0'])
    expect(holders()).toEqual([['b-0']])
    await b.started()
    await b.answering()
    await b.loaded()
    expect(second.granted).toBeDefined()
  })

  it('is never taken from one in use: who waits is told who holds it', async () => {
    const a = rig('a')
    const b = rig('b', { gpu: alone, queue: { limit: 64, timeoutMs: 5_000 } })
    await serve(a)
    const second = b.acquire()
    await b.prepared()
    clock.advance(5_000)
    await settled()
    expect(second.error).toMatchObject({
      code: 'GPU_UNAVAILABLE',
      message: expect.stringContaining('held by a'),
      details: { module: 'b', holders: ['a'], devices: ['gpu0'] },
    })
    expect(a.effects.count('stop')).toBe(0)
    expect(b.state.shortages.size).toBe(0)
  })

  it('is left to its holder when nobody waits for it any more', async () => {
    const a = rig('a')
    const b = rig('b')
    const first = await serve(a)
    const second = b.acquire()
    await b.prepared()
    second.abort.abort()
    await settled()
    expect(b.state.shortages.size).toBe(0)
    ;(await first.lease).release()
    await settled()
    expect(a.effects.count('stop')).toBe(0)
  })

  it('goes to who waited for it, also where its last holder wants it back at once', async () => {
    const a = rig('a')
    const b = rig('b')
    const first = await serve(a)
    b.acquire()
    await b.prepared()
    ;(await first.lease).release()
    await settled()
    a.acquire()
    await a.stopped()
    expect(holders()).toEqual([['b-0']])
    expect(a.state.shortages.get('a-0')?.shortage.holders).toEqual(['b'])
  })

  it('stays with one that always runs', async () => {
    const a = rig('a', { gpu: alone, scale: { min: 1, max: 1 } })
    const b = rig('b', { gpu: alone, queue: { limit: 64, timeoutMs: 5_000 } })
    ;(await (await serve(a)).lease).release()
    const second = b.acquire()
    await b.prepared()
    clock.advance(5_000)
    await settled()
    expect(second.error?.code).toBe('GPU_UNAVAILABLE')
    expect(a.effects.count('stop')).toBe(0)
  })

  it('is known to be held by what ran before this orchestrator', async () => {
    const a = rig('a')
    const observed = { ...a.observed(), module: 'a', replica: 'a-0' }
    const adopted = a.writer.adopt(observed, { ...a.workload(1, ['gpu0']) })
    await a.answering()
    await adopted
    expect(holders()).toEqual([['a-0']])
    const b = rig('b')
    b.acquire()
    await b.prepared()
    await settled()
    expect(a.effects.count('stop')).toBe(1)
  })

  it('that only one copy fits on is freed by the old generation before the new one starts', async () => {
    const a = rig('a')
    ;(await (await serve(a)).lease).release()
    a.writer.post({ type: 'define', definition: { ...a.definition, specHash: 'spec-2' } })
    await a.prepared()
    await settled()
    expect(a.effects.count('stop')).toBe(1)
    const asked = a.acquire()
    await a.stopped()
    await up(a)
    expect(asked.granted).toBeDefined()
    expect(holders()).toEqual([['a-0']])
  })

  it('comes free with a start that fails', async () => {
    const a = rig('a')
    a.acquire()
    await a.prepared()
    expect(holders()).toEqual([['a-0']])
    await a.failing('start', new Error('no'))
    expect(holders()).toEqual([[]])
  })

  it('is not waited for by an optional request', async () => {
    const a = rig('a')
    await serve(a)
    const b = rig('b', { gpu: { count: 1, optional: true } })
    await serve(b)
    expect(b.effects.calls.find(({ kind }) => kind === 'start')?.devices).toEqual([])
  })
})

describe('a share of a device', () => {
  it('is free while its holder has no models: they are offloaded, the workload stays', async () => {
    const a = rig('a', { gpu: share(16) })
    const b = rig('b', { gpu: share(16) })
    ;(await (await serve(a)).lease).release()
    b.acquire()
    await b.prepared()
    await settled()
    expect(a.effects.open('offload').names).toEqual(['m'])
    expect(b.effects.count('start')).toBe(0)
    await a.offloaded()
    expect(b.effects.open('start').devices).toEqual(['gpu0'])
    expect(a.effects.count('stop')).toBe(0)
    expect(resources.devices()[0]?.holders).toMatchObject([
      { replica: 'a-0', heldBytes: 0, declaredBytes: 16 },
      { replica: 'b-0', heldBytes: 16 },
    ])
  })

  it('is taken again before models are loaded again, from an idle holder if need be', async () => {
    const a = rig('a', { gpu: share(16) })
    const b = rig('b', { gpu: share(16) })
    ;(await (await serve(a)).lease).release()
    const second = b.acquire()
    await b.prepared()
    await settled()
    await a.offloaded()
    await up(b)
    const third = a.acquire()
    await settled()
    expect(a.effects.count('load')).toBe(1)
    expect(b.effects.count('offload')).toBe(0)
    ;(await second.lease).release()
    await settled()
    await b.offloaded()
    await a.loaded()
    expect(third.granted).toBeDefined()
  })

  it('does not keep those from a device who came before, while its holder waits itself', async () => {
    const a = rig('a', { gpu: share(16) })
    const b = rig('b', { gpu: share(16) })
    const c = rig('c')
    ;(await (await serve(a)).lease).release()
    const second = b.acquire()
    await b.prepared()
    await settled()
    await a.offloaded()
    await up(b)
    const third = c.acquire()
    await c.prepared()
    // It has a container on the device, no models, and comes after the one that wants the device alone.
    const fourth = a.acquire()
    await settled()
    ;(await second.lease).release()
    await settled()
    await a.stopped()
    await b.stopped()
    await up(c)
    ;(await third.lease).release()
    await settled()
    await c.stopped()
    await up(a)
    expect(fourth.granted).toBeDefined()
  })

  it('of another device is taken by a new start, where its own stays full', async () => {
    machine = {
      devices: [
        { id: 'gpu0', sizeBytes: 24 },
        { id: 'gpu1', sizeBytes: 24 },
      ],
      memoryBytes: Number.POSITIVE_INFINITY,
    }
    const a = rig('a', { gpu: share(16) })
    const b = rig('b', { gpu: share(16) })
    const c = rig('c', { gpu: share(24) })
    ;(await (await serve(a)).lease).release()
    const other = await serve(c)
    const second = b.acquire()
    await b.prepared()
    await settled()
    await a.offloaded()
    await up(b)
    expect(holders()).toEqual([['a-0', 'b-0'], ['c-0']])
    // Both devices are in use; then the other one comes free.
    const third = a.acquire()
    await settled()
    ;(await other.lease).release()
    c.writer.post({ type: 'want', wanted: 'disabled' })
    await settled()
    await c.stopped()
    await settled()
    expect(second.granted).toBeDefined()
    await a.stopped()
    await up(a)
    expect(third.granted).toBeDefined()
    expect(holders()).toEqual([['b-0'], ['a-0']])
  })

  it('that turns out larger counts as it was measured', async () => {
    const a = rig('a', { gpu: share(4) })
    const first = await serve(a)
    a.writer.checkHealth()
    const health = a.effects.open('health')
    health.resolve({ state: 'ready', models: ['m'], gpuMemory: { ageMs: 0, devices: { 0: { used: 20, own: 20 } } } })
    clock.advance(1)
    await settled()
    expect(resources.devices()[0]).toMatchObject({ usedBytes: 20, holders: [{ declaredBytes: 4, measuredBytes: 20 }] })
    const b = rig('b', { gpu: share(5) })
    b.acquire()
    await b.prepared()
    expect(b.effects.count('start')).toBe(0)
    ;(await first.lease).release()
    await settled()
    await a.offloaded()
    expect(b.effects.count('start')).toBe(1)
  })
})

describe('main memory', () => {
  it('is shared out by resources.memory: an idle workload is stopped for another', async () => {
    machine = { devices: [], memoryBytes: 100 }
    const a = rig('a', { resources: { memoryBytes: 60 } })
    const b = rig('b', { resources: { memoryBytes: 60 }, queue: { limit: 64, timeoutMs: 5_000 } })
    const first = await serve(a)
    const second = b.acquire()
    await b.prepared()
    clock.advance(5_000)
    await settled()
    expect(second.error).toMatchObject({ code: 'ENGINE_UNAVAILABLE', details: { holders: ['a'] } })
    ;(await first.lease).release()
    b.acquire()
    await settled()
    await a.stopped()
    expect(b.effects.count('start')).toBe(1)
  })
})

describe('explicit loads', () => {
  it('are refused like requests when there is no room for long', async () => {
    const a = rig('a')
    await serve(a)
    const b = rig('b', { gpu: alone, queue: { limit: 64, timeoutMs: 5_000 } })
    const load = b.work((signal) => b.writer.load({ m: {} }, signal))
    await b.prepared()
    clock.advance(5_000)
    await settled()
    expect(load.error?.code).toBe('GPU_UNAVAILABLE')
  })
})

describe('a load that went wrong', () => {
  async function afterTimeout() {
    const a = rig('a', { gpu: share(16) })
    const b = rig('b', { gpu: share(16) })
    const first = a.acquire()
    await a.prepared()
    await a.started()
    await a.answering()
    const second = b.acquire()
    await b.prepared()
    await a.failing('load', new BerthError('LOAD_TIMEOUT', 'not loaded in time'))
    expect(first.error).toMatchObject({ code: 'LOAD_TIMEOUT' })
    return { a, b, second }
  }

  it('keeps its share until the health of its runner says that nothing is loaded', async () => {
    const { a, b } = await afterTimeout()
    expect(b.effects.count('start')).toBe(0)
    await a.healthy([])
    expect(b.effects.count('start')).toBe(1)
  })

  it('keeps its share for what is loaded all the same', async () => {
    const { a, b } = await afterTimeout()
    b.effects.onCall = ({ kind }) => expect([kind, a.replica?.models.size]).not.toEqual(['start', 1])
    await a.healthy(['m'])
    expect(a.effects.count('offload')).toBe(1)
    await a.offloaded()
    expect(b.effects.count('start')).toBe(1)
  })
})
