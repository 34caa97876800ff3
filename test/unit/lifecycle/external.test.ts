import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createRig, type Rig, settled } from './rig.ts'

/** Replicas that somebody else runs: taken into use and let go, never prepared, started or stopped. */
const rigOf = () =>
  createRig({ manifest: { source: { kind: 'external', reference: 'compose service a/b' }, scale: { min: 1, max: 1 } } })

const listed = (rig: Rig, ...containers: string[]) =>
  containers.map((replica, index) => rig.observed({ replica, generation: 100 + index, specHash: '' }))

function use(rig: Rig, ...containers: string[]) {
  return listed(rig, ...containers).map((observed) =>
    rig.work(() => rig.writer.adopt(observed, rig.workload(observed.generation))),
  )
}

/** Both containers in use, each with `m` loaded. */
async function two(): Promise<Rig> {
  const rig = rigOf()
  use(rig, 'one', 'two')
  const asked = rig.acquire()
  await rig.answering()
  await rig.answering()
  await rig.loaded()
  await rig.loaded()
  asked.granted?.release()
  return rig
}

const touched = (rig: Rig) => rig.effects.count('prepare') + rig.effects.count('start')
const states = (rig: Rig) => [...rig.state.replicas.values()].map(({ id, state }) => `${id} ${state}`)

describe('a replica that somebody else runs', () => {
  it('is used, as many as there are, and gets the models that the others have', async () => {
    const rig = await two()
    expect(states(rig)).toEqual(['one ready', 'two ready'])
    expect(rig.told).toContain('one#100 absent -> idle')
    const [, , third] = listed(rig, 'one', 'two', 'three')
    if (third) rig.work(() => rig.writer.adopt(third, rig.workload(third.generation)))
    await rig.answering()
    expect(rig.effects.open('load')).toMatchObject({ replica: { id: 'three' }, names: ['m'] })
    await rig.loaded()
    expect(states(rig)).toEqual(['one ready', 'two ready', 'three ready'])
    expect(touched(rig)).toBe(0)
  })

  it('is let go when it is listed no more, at once and without a back-off', async () => {
    const rig = await two()
    rig.clock.advance(1)
    rig.writer.observe(listed(rig, 'one'), rig.clock.now())
    await settled()
    await rig.stopped()
    expect(states(rig)).toEqual(['one ready'])
    expect(rig.told.filter((line) => line.startsWith('crashed'))).toEqual([])
    const asked = rig.acquire()
    await settled()
    expect(asked.granted?.replica).toBe('one')
    expect(touched(rig)).toBe(0)
  })

  it('that says that it ends gets nothing new and finishes what it has', async () => {
    const rig = await two()
    const [first, second] = [rig.acquire(), rig.acquire()]
    await settled()
    const ending = first.granted?.replica
    rig.writer.post({ type: 'suspect', replica: ending ?? '', generation: first.granted?.generation ?? 0 })
    await settled()
    const bye = new BerthError('SHUTTING_DOWN', 'it ends', {}, { origin: 'module' })
    rig.effects.open('health').resolve({ state: 'failed', models: [], error: bye })
    await settled()
    expect(rig.effects.count('stop')).toBe(0)
    const third = rig.acquire()
    await settled()
    expect(third.granted).toBeUndefined()
    second.granted?.release()
    await settled()
    expect(third.granted?.replica).not.toBe(ending)
    first.granted?.release()
    await settled()
    await rig.stopped()
    expect(states(rig)).toHaveLength(1)
  })

  it('that does not answer as it should is left out, and the module says why', async () => {
    const rig = rigOf()
    const [used] = use(rig, 'one')
    const asked = rig.acquire()
    await rig.failing('answer', new BerthError('RUNNER_PROTOCOL', 'it refuses the token'))
    await rig.stopped()
    expect(used?.error?.code).toBe('RUNNER_PROTOCOL')
    expect(asked.error?.message).toBe('it refuses the token')
    expect(rig.state.failure.error?.message).toBe('it refuses the token')
    use(rig, 'one')
    await rig.answering()
    expect(rig.state.failure.error).toBeUndefined()
  })

  it('there is none of: a request is told at once', async () => {
    const rig = rigOf()
    const asked = rig.acquire()
    await settled()
    expect(asked.error).toMatchObject({ code: 'RUNNER_UNREACHABLE', message: expect.stringContaining('No container') })
    expect(touched(rig)).toBe(0)
  })

  it('serves a request that came while it was being looked at', async () => {
    const rig = rigOf()
    use(rig, 'one')
    const asked = rig.acquire()
    await settled()
    expect(asked.error).toBeUndefined()
    await rig.answering()
    await rig.loaded()
    expect(asked.granted?.replica).toBe('one')
  })

  it('is out of use while its module is disabled', async () => {
    const rig = await two()
    rig.writer.post({ type: 'want', wanted: 'disabled' })
    await settled()
    await rig.stopped()
    await rig.stopped()
    expect(states(rig)).toEqual([])
    rig.writer.post({ type: 'want', wanted: 'enabled' })
    use(rig, 'one')
    await rig.answering()
    expect(states(rig)).toEqual(['one idle'])
  })
})
