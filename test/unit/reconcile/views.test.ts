import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { EngineCapabilities } from '../../../orchestrator/engines/engine.ts'
import { modelView, moduleState, moduleView, securityView } from '../../../orchestrator/reconcile/views.ts'
import { testDefinition, testManifest, testModel } from '../../support/definitions.ts'
import { createRig, settled } from '../lifecycle/rig.ts'

const capabilities: EngineCapabilities = {
  isolation: 'container',
  adopts: true,
  images: true,
  networkPolicy: true,
  gpus: [],
  memoryBytes: Number.POSITIVE_INFINITY,
  description: 'test',
  weaknesses: [],
}

const view = (rig: ReturnType<typeof createRig>) => moduleView(rig.state, capabilities, undefined)

describe("a module's view", () => {
  it('follows a cold start to its answer', async () => {
    const rig = createRig()
    const states: string[] = []
    const note = () => states.push(moduleState(rig.state))
    note()
    const asked = rig.acquire()
    note()
    await rig.prepared()
    note()
    await rig.started()
    await rig.answering()
    note()
    await rig.loaded()
    note()
    expect(states).toEqual(['preparing', 'preparing', 'starting', 'loading', 'ready'])
    expect(view(rig)).toMatchObject({
      id: 'mod',
      format: 'service',
      desired: 'enabled',
      state: 'ready',
      source: '/modules/mod',
      models: ['m'],
      replicas: [{ id: 'mod-0', generation: 1, state: 'ready', models: ['m'], inflight: 1, restarts: 0, gpus: [] }],
    })
    expect(view(rig)).not.toHaveProperty('error')
    asked.granted?.release()
    expect(view(rig).replicas[0]?.inflight).toBe(0)
  })

  it('is absent when nobody has asked for it yet, and when it is disabled', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    expect(view(rig)).toMatchObject({ state: 'absent', replicas: [] })
    rig.writer.post({ type: 'want', wanted: 'disabled' })
    expect(view(rig)).toMatchObject({ state: 'absent', desired: 'disabled' })
  })

  it('shows the install and what it says, then the environment', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    const prepare = rig.effects.open('prepare')
    prepare.onProgress?.({
      phase: 'environment',
      message: 'Downloading numpy',
      current: 1,
      total: 9,
      line: 'x',
      environmentKey: 'k1',
    })
    expect(view(rig)).toMatchObject({
      state: 'preparing',
      environment: { key: 'k1', state: 'installing' },
      progress: { phase: 'environment', message: 'Downloading numpy', current: 1, total: 9 },
    })
    expect(view(rig).progress).not.toHaveProperty('line')
    prepare.resolve({ key: 'k1', bytes: 12 })
    await settled()
    expect(view(rig).environment).toEqual({ key: 'k1', state: 'ready', bytes: 12 })
    expect(view(rig)).not.toHaveProperty('progress')
  })

  it('shows a failed install with its error', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    rig.effects.open('prepare').onProgress?.({ phase: 'environment', message: 'Resolving', environmentKey: 'k1' })
    await rig.failing('prepare', new BerthError('REQUIREMENTS_FAILED', 'no such package'))
    expect(view(rig)).toMatchObject({
      state: 'failed',
      environment: { key: 'k1', state: 'failed' },
      error: { code: 'REQUIREMENTS_FAILED', message: 'no such package', origin: 'orchestrator' },
    })
  })

  it('shows a crash until it is mended', async () => {
    const rig = createRig()
    await rig.ready()
    await rig.exits({ code: 9 })
    expect(view(rig)).toMatchObject({
      state: 'failed',
      error: { code: 'WORKLOAD_EXITED' },
      replicas: [{ state: 'failed', restarts: 1, error: { code: 'WORKLOAD_EXITED' } }],
    })
    rig.clock.advance(500)
    await rig.started()
    await rig.answering()
    expect(view(rig)).not.toHaveProperty('error')
  })

  it('shows a bad edit beside the last good manifest at work', async () => {
    const rig = createRig()
    await rig.ready()
    const error = new BerthError('MANIFEST_INVALID', 'unknown key', { file: 'module.yaml' })
    expect(moduleView(rig.state, capabilities, error)).toMatchObject({
      state: 'ready',
      error: { code: 'MANIFEST_INVALID' },
    })
  })

  it('names models that an explicit load has named', async () => {
    const rig = createRig()
    void rig.work((signal) => rig.writer.load({ extra: {} }, signal))
    expect(view(rig).models).toEqual(['m', 'extra'])
  })
})

describe("a model's view", () => {
  const of = (rig: ReturnType<typeof createRig>, name = 'm') => modelView(testModel(name), rig.state)

  it('has its own state beside that of its module', async () => {
    const rig = createRig({ models: { m: {}, other: {} } })
    await rig.ready()
    expect([of(rig).state, of(rig, 'other').state]).toEqual(['ready', 'idle'])
    rig.acquire('other')
    expect([of(rig).state, of(rig, 'other').state]).toEqual(['ready', 'loading'])
    await rig.loaded()
    void rig.work((signal) => rig.writer.offload(['m'], signal))
    expect([of(rig).state, of(rig, 'other').state]).toEqual(['offloading', 'ready'])
  })

  it('counts those served and those in the queue, and tells its last use', async () => {
    const rig = createRig()
    await rig.ready()
    const running = rig.acquire()
    rig.acquire()
    rig.acquire()
    await settled()
    expect(of(rig)).toMatchObject({
      name: 'm',
      module: 'mod',
      state: 'ready',
      replicas: ['mod-0'],
      inflight: 1,
      queued: 2,
    })
    rig.clock.advance(5_000)
    running.granted?.release()
    expect(of(rig).lastUsed).toBe(new Date(rig.clock.now()).toISOString())
  })

  it('takes the state of its module where nothing runs', async () => {
    const rig = createRig()
    rig.acquire()
    expect(of(rig)).toMatchObject({ state: 'preparing', replicas: [], queued: 1 })
    expect(of(rig)).not.toHaveProperty('lastUsed')
    await rig.failing('prepare', new BerthError('REQUIREMENTS_FAILED', 'no'))
    expect(of(rig)).toMatchObject({ state: 'failed', queued: 0 })
  })
})

describe('the security score', () => {
  it('is 100 less what the engine and the manifest open, with every reason', () => {
    const engine = { ...capabilities, weaknesses: [{ points: 30, finding: 'no isolation' }] }
    expect(securityView(testManifest(), capabilities)).toEqual({ score: 100, findings: [] })
    const { score, findings } = securityView(testManifest({ network: 'egress', calls: ['minilm'] }), engine)
    expect(score).toBe(50)
    expect(findings).toHaveLength(3)
    expect(findings.join()).toMatch(/no isolation.*egress.*minilm/)
  })

  it('never falls below 0', () => {
    const engine = { ...capabilities, weaknesses: [{ points: 130, finding: 'everything' }] }
    expect(securityView(testDefinition().manifest, engine).score).toBe(0)
  })
})
