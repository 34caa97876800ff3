import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { configuredHash } from '../../../orchestrator/lifecycle/configured-hash.ts'
import { testDefinition } from '../../support/definitions.ts'
import { createRig, type Rig, type RigOptions, settled } from './rig.ts'

const adopting = (rig: Rig, generation = 7) =>
  rig.work(() => rig.writer.adopt(rig.observed({ generation }), rig.workload(generation)))

/** The next orchestrator, with what the one before has kept. */
function successor(before: Rig, options: RigOptions = {}): Rig {
  const rig = createRig(options)
  for (const [key, hash] of before.effects.kept) rig.effects.kept.set(key, hash)
  return rig
}

describe('a workload that was running already', () => {
  it('is taken over with what it has loaded', async () => {
    const rig = createRig()
    rig.effects.kept.set('mod-0#7 m', configuredHash({}))
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    const adopted = adopting(rig)
    await rig.answering(['m'])
    expect(adopted.over).toBe(true)
    expect(rig.replica).toMatchObject({ state: 'ready', generation: 7 })
    const asked = rig.acquire()
    await settled()
    expect(asked.granted?.generation).toBe(7)
    expect(rig.effects.count('start')).toBe(0)
    expect(rig.told).toContain('up #7')
  })

  it('loads a model anew whose configuration has changed meanwhile, and keeps the others', async () => {
    const before = createRig({ models: { m: { size: 1 }, same: { size: 1 } } })
    await before.ready()
    const same = before.acquire('same')
    await settled()
    await before.loaded()
    same.granted?.release()
    const rig = successor(before, { models: { m: { size: 2 }, same: { size: 1 } } })
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    adopting(rig, 1)
    const asked = rig.acquire('m')
    await rig.answering(['m', 'same'])
    expect(rig.effects.open('offload').names).toEqual(['m'])
    await rig.offloaded()
    expect(rig.effects.open('load').models).toEqual({ m: { size: 2 } })
    await rig.loaded()
    expect(asked.granted?.generation).toBe(1)
    expect(rig.effects.kept.get('mod-0#1 m')).toBe(configuredHash({ size: 2 }))
  })

  it('loads a model anew whose last load was cut short by the end of the orchestrator', async () => {
    const before = createRig()
    await before.ready()
    before.work((signal) => before.writer.load({ m: { size: 9 } }, signal))
    expect(before.effects.count('load')).toBe(2)
    const rig = successor(before)
    adopting(rig, 1)
    await rig.answering(['m'])
    expect(rig.effects.open('offload').names).toEqual(['m'])
  })

  it('keeps what an explicit load named as long as the definition stays', async () => {
    const before = createRig()
    await before.ready()
    before.work((signal) => before.writer.load({ m: { size: 9 }, own: {} }, signal))
    await before.loaded()
    const rig = successor(before)
    adopting(rig, 1)
    await rig.answering(['m', 'own'])
    expect(rig.replica?.state).toBe('ready')
    expect(rig.effects.count('offload')).toBe(0)
  })

  it('serves a request that comes while it is asked; no second generation is started', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    adopting(rig)
    const asked = rig.acquire()
    await settled()
    expect(rig.effects.count('start')).toBe(0)
    await rig.answering([])
    await rig.loaded()
    expect(asked.granted?.generation).toBe(7)
  })

  it('and does not answer is stopped before another generation starts', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    const adopted = adopting(rig)
    const asked = rig.acquire()
    await rig.failing('answer', new BerthError('RUNNER_UNREACHABLE', 'refused'))
    expect(rig.effects.count('start')).toBe(0)
    await rig.stopped()
    expect(adopted.error?.code).toBe('RUNNER_UNREACHABLE')
    expect(rig.effects.count('start')).toBe(1)
    await rig.started()
    await rig.answering()
    await rig.loaded()
    expect(asked.granted).toBeDefined()
  })

  it('of another make serves until one of the new environment has taken its place', async () => {
    const rig = createRig()
    rig.effects.kept.set('mod-0#7 m', configuredHash({}))
    const adopted = adopting(rig)
    rig.writer.post({ type: 'define', definition: testDefinition({ specHash: 'spec-2' }) })
    await rig.answering(['m'])
    expect(adopted.over).toBe(true)
    expect(rig.replica?.state).toBe('ready')
    await rig.prepared()
    expect(rig.replica?.state).toBe('ready')
    await rig.started()
    await rig.answering()
    await rig.loaded()
    expect(rig.replica?.state).toBe('stopping')
  })

  it('of a module that was disabled meanwhile is stopped', async () => {
    const rig = createRig()
    adopting(rig)
    rig.writer.post({ type: 'want', wanted: 'disabled' })
    await rig.answering(['m'])
    expect(rig.told.filter((line) => /^(up|down)/.test(line))).toEqual(['up #7', 'down #7'])
    await rig.stopped()
    expect(rig.state.replicas.size).toBe(0)
  })

  it('is not taken over where another generation is in charge', async () => {
    const rig = createRig()
    await rig.ready()
    const adopted = adopting(rig)
    await settled()
    expect(adopted.error).toBeDefined()
    expect(rig.replica).toMatchObject({ state: 'ready', generation: 1 })
  })

  it('that ends afterwards is replaced', async () => {
    const rig = createRig()
    rig.effects.kept.set('mod-0#7 m', configuredHash({}))
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    adopting(rig)
    await rig.answering(['m'])
    await rig.exits()
    rig.clock.advance(500)
    expect(rig.effects.count('start')).toBe(1)
  })
})
