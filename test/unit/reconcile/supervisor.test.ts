import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { ModuleManifest } from '../../../orchestrator/domain/manifest.ts'
import type { Engine, ObservedWorkload } from '../../../orchestrator/engines/engine.ts'
import { configuredHash } from '../../../orchestrator/lifecycle/configured-hash.ts'
import { defineModule } from '../../../orchestrator/lifecycle/workload.ts'
import { findModel, findModelOf, findModule } from '../../../orchestrator/reconcile/model-routes.ts'
import { createModuleService } from '../../../orchestrator/reconcile/module-service.ts'
import type { ExternalReplica } from '../../../orchestrator/reconcile/read-containers.ts'
import { type DesiredState, Supervisor } from '../../../orchestrator/reconcile/supervisor.ts'
import { asker } from '../../support/asker.ts'
import { testManifest, testModel } from '../../support/definitions.ts'
import { endlessResources } from '../../support/endless-resources.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { silentObserver } from '../../support/silent-observer.ts'
import { RecordingEffects, settled } from '../lifecycle/rig.ts'

const instance = { id: 'test', secret: 'secret' }
function createWorld() {
  const clock = new FakeClock()
  const effects = new RecordingEffects()
  const stopped: string[] = []
  const forgotten: unknown[] = []
  const logged: string[] = []
  const world = { listed: [] as ObservedWorkload[], away: false, external: [] as ExternalReplica[] }
  const engine = {
    name: 'memory',
    list: () =>
      world.away ? Promise.reject(new BerthError('ENGINE_UNAVAILABLE', 'away')) : Promise.resolve(world.listed),
    stop: (id: string) => {
      stopped.push(id)
      world.listed = world.listed.filter((workload) => workload.id !== id)
      return Promise.resolve()
    },
    forget: (module: string, options: { readonly data: boolean }) => {
      forgotten.push({ module, ...options })
      return world.away ? Promise.reject(new BerthError('ENGINE_UNAVAILABLE', 'away')) : Promise.resolve()
    },
  } as unknown as Engine
  const supervisor = new Supervisor({
    engine,
    instance,
    effects,
    resources: endlessResources(clock),
    observer: silentObserver,
    clock,
    random: () => 0,
    reconciled() {},
    external: {
      refresh: async () => {},
      replicasOf: (id) => world.external.filter(({ observed }) => observed.module === id),
    },
    log: (level, message) => logged.push(`${level}: ${message}`),
  })

  const models = (manifest: ModuleManifest) => new Map([[manifest.id, testModel(manifest.id, { module: manifest.id })]])

  function apply(manifests: readonly ModuleManifest[], more: Partial<DesiredState> = {}): void {
    supervisor.apply({
      modules: manifests.map((manifest) => ({
        id: manifest.id,
        source: manifest.source,
        manifest,
      })) as unknown as DesiredState['modules'],
      models: new Map(manifests.flatMap((manifest) => [...models(manifest)])),
      aliases: new Map(),
      modelErrors: new Map(),
      disabled: new Set(),
      scales: new Map(),
      ...more,
    })
  }

  const observed = (manifest: ModuleManifest, generation: number): ObservedWorkload => ({
    id: `${manifest.id}#${generation}`,
    module: manifest.id,
    replica: `${manifest.id}-0`,
    generation,
    specHash: defineModule(instance, manifest, models(manifest)).specHash,
    state: 'running',
    endpoint: { kind: 'unix', path: '/nowhere' },
    gpus: [],
  })

  async function succeed(kind: 'prepare' | 'stop'): Promise<void> {
    effects.open(kind).resolve(undefined)
    await settled()
  }
  async function running(manifest: ModuleManifest): Promise<void> {
    await succeed('prepare')
    void findModule(supervisor, manifest.id)
      .ensureLoaded({ model: manifest.id, maxInflight: 1, ...asker, signal: new AbortController().signal })
      .catch(() => {})
    const generation = effects.open('start').replica?.generation ?? 0
    const workload = observed(manifest, generation)
    world.listed.push(workload)
    effects.open('start').resolve({ id: workload.id, endpoint: { kind: 'unix', path: '/nowhere' }, gpus: [] })
    await settled()
    effects.open('answer').resolve({ state: 'idle', models: [] })
    await settled()
    effects.open('load').resolve([manifest.id])
    await settled()
  }
  const state = (id: string) =>
    [...(supervisor.records.get(id)?.writer?.state.replicas.values() ?? [])].map((replica) => replica.state)

  return { supervisor, effects, clock, stopped, forgotten, logged, world, apply, observed, succeed, running, state }
}

const a = testManifest({ id: 'a' })
const b = testManifest({ id: 'b' })

describe('the supervisor', () => {
  it('touches only what has changed', async () => {
    const { apply, effects } = createWorld()
    apply([a, b])
    expect(effects.count('prepare')).toBe(2)
    apply([a, b])
    apply([a, { ...b, contentHash: 'edited' }])
    await settled()
    expect(effects.count('prepare')).toBe(3)
  })

  it('drains and forgets a module that is taken away', async () => {
    const { apply, effects, running, state, succeed, supervisor } = createWorld()
    apply([a])
    await running(a)
    const writer = findModule(supervisor, 'a')
    apply([])
    expect(supervisor.records.has('a')).toBe(false)
    expect([...writer.state.replicas.values()].map((replica) => replica.state)).toEqual(['stopping'])
    await settled()
    await succeed('stop')
    expect(writer.state.replicas.size).toBe(0)
    expect(effects.count('start')).toBe(1)
    expect(state('a')).toEqual([])
  })

  it('has the network of a module removed when its last workload has gone, and never its data', async () => {
    const { apply, running, succeed, forgotten, logged, world } = createWorld()
    apply([a, b])
    await running(a)
    apply([b])
    await settled()
    expect(forgotten).toEqual([])
    await succeed('stop')
    expect(forgotten).toEqual([{ module: 'a', data: false }])
    world.away = true
    apply([])
    await settled()
    expect(forgotten).toContainEqual({ module: 'b', data: false })
    expect(logged).toContainEqual(expect.stringContaining('could not remove the network of b'))
  })

  it('leaves a module its network that comes back while it leaves', async () => {
    const { apply, running, succeed, forgotten } = createWorld()
    apply([a])
    await running(a)
    apply([])
    apply([{ ...a, contentHash: 'edited' }])
    await succeed('prepare')
    await succeed('stop')
    expect(forgotten).toEqual([])
  })

  it('uses what somebody else runs as it is listed, and never touches it', async () => {
    const { supervisor, effects, clock, apply, observed, state, stopped, world } = createWorld()
    const theirs = testManifest({ id: 'theirs', source: { kind: 'external', reference: 'compose service x/theirs' } })
    const container = (replica: string): ExternalReplica => {
      const seen = { ...observed(theirs, 1), id: replica, replica }
      return { observed: seen, workload: { id: replica, endpoint: { kind: 'unix', path: '/nowhere' }, gpus: [] } }
    }
    const list = async (...containers: string[]): Promise<void> => {
      world.external = containers.map(container)
      clock.advance(1)
      await supervisor.reconcile()
      for (const call of effects.calls)
        if (call.kind === 'answer' && !call.settled) call.resolve({ state: 'idle', models: [] })
      await settled()
      for (const call of effects.calls) if (call.kind === 'stop' && !call.settled) call.resolve(undefined)
      await settled()
    }
    apply([theirs])
    await list('one', 'two')
    expect(state('theirs')).toEqual(['idle', 'idle'])
    await list('two')
    expect(state('theirs')).toEqual(['idle'])

    apply([theirs], { disabled: new Set(['theirs']) })
    await list('two')
    await list('two')
    expect(state('theirs')).toEqual([])
    // Enabled, it is used without waiting for the next listing.
    apply([theirs])
    expect(state('theirs')).toEqual(['absent'])
    await list('two')
    expect(state('theirs')).toEqual(['idle'])

    const all = supervisor.stopAll(AbortSignal.timeout(5_000))
    await settled()
    effects.open('stop').resolve(undefined)
    expect(await all).toEqual([])
    expect([stopped, effects.count('prepare'), effects.count('start')]).toEqual([[], 0, 0])
  })

  it('never has two generations of a module that comes back while it leaves', async () => {
    const { apply, effects, running, succeed, supervisor } = createWorld()
    apply([a])
    await running(a)
    apply([])
    apply([{ ...a, contentHash: 'edited' }])
    await succeed('prepare')
    void findModule(supervisor, 'a')
      .acquire({ model: 'a', maxInflight: 1, ...asker, signal: new AbortController().signal })
      .catch(() => {})
    await settled()
    expect(effects.count('start')).toBe(1)
    await succeed('stop')
    expect(effects.count('start')).toBe(2)
    expect(supervisor.records.get('a')?.writer?.state.wanted).toBe('enabled')
  })

  it('keeps a module at work whose edit is broken', async () => {
    const { apply, running, state, supervisor } = createWorld()
    apply([a])
    await running(a)
    const error = new BerthError('MANIFEST_INVALID', 'unknown key')
    apply([], {
      modules: [{ id: 'a', source: '/modules/a', format: 'service', error }] as unknown as DesiredState['modules'],
    })
    expect(state('a')).toEqual(['ready'])
    expect(findModule(supervisor, 'a').state.definition.manifest.id).toBe('a')
  })

  it('reloads nothing and restarts nothing for a disabled module, and refuses it', async () => {
    const { apply, effects, supervisor } = createWorld()
    apply([a], { disabled: new Set(['a']) })
    const lease = findModel(supervisor, 'a').acquire({ ...asker, signal: new AbortController().signal })
    await expect(lease).rejects.toMatchObject({ code: 'MODULE_DISABLED' })
    expect(effects.calls).toEqual([])
  })
})

describe('a listing', () => {
  it('at the start adopts what is wanted and removes the rest', async () => {
    const { apply, effects, logged, observed, state, stopped, supervisor, world } = createWorld()
    apply([a])
    effects.kept.set('a-0#4 a', configuredHash({}))
    world.listed = [observed(a, 4), observed(b, 2)]
    const done = supervisor.reconcile({ atOnce: true })
    await settled()
    effects.open('answer').resolve({ state: 'ready', models: ['a'] })
    await done
    expect(stopped).toEqual(['b#2'])
    expect(state('a')).toEqual(['ready'])
    expect(logged.join('\n')).toContain('removes b-0: there is no module b any more')
  })

  it('later acts on a stranger only when two in a row show it', async () => {
    const { apply, observed, stopped, supervisor, world } = createWorld()
    apply([a])
    world.listed = [observed(b, 2)]
    await supervisor.reconcile()
    expect(stopped).toEqual([])
    world.listed = []
    await supervisor.reconcile()
    world.listed = [observed(b, 2)]
    await supervisor.reconcile()
    expect(stopped).toEqual([])
    await supervisor.reconcile()
    expect(stopped).toEqual(['b#2'])
  })

  it('removes what can not be adopted', async () => {
    const { apply, effects, observed, state, stopped, succeed, supervisor, world } = createWorld()
    apply([a])
    world.listed = [observed(a, 4)]
    const done = supervisor.reconcile({ atOnce: true })
    await settled()
    effects.open('answer').reject(new BerthError('RUNNER_UNREACHABLE', 'refused'))
    await settled()
    await succeed('stop')
    await done
    expect(stopped).toEqual(['a#4'])
    expect(state('a')).toEqual([])
  })

  it('cut short by the end of the orchestrator removes nothing', async () => {
    const { apply, observed, stopped, supervisor, world } = createWorld()
    apply([a])
    world.listed = [observed(a, 4)]
    const done = supervisor.reconcile({ atOnce: true })
    await settled()
    supervisor.close()
    await done
    expect(stopped).toEqual([])
  })

  it('that fails concludes nothing', async () => {
    const { apply, running, state, supervisor, world } = createWorld()
    apply([a])
    await running(a)
    world.away = true
    await expect(supervisor.reconcile()).rejects.toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
    expect(state('a')).toEqual(['ready'])
  })

  it('tells a writer that its workload has gone', async () => {
    const { apply, clock, running, state, supervisor, world } = createWorld()
    apply([a])
    await running(a)
    clock.advance(1)
    world.listed = []
    await supervisor.reconcile()
    expect(state('a')).toEqual(['failed'])
  })
})

describe('stopAll', () => {
  it('names what ran, and is done when it is gone', async () => {
    const { apply, observed, running, stopped, succeed, supervisor, world } = createWorld()
    apply([a, b])
    await running(a)
    await succeed('prepare')
    const stranger = observed(testManifest({ id: 'stranger' }), 1)
    world.listed = [stranger]
    const done = supervisor.stopAll(new AbortController().signal)
    await settled()
    await succeed('stop')
    expect(await done).toEqual(['a'])
    expect(stopped).toEqual(['stranger#1'])
  })

  it('is not undone by a module that is edited meanwhile', async () => {
    const { apply, running, succeed, supervisor } = createWorld()
    apply([a])
    await running(a)
    const done = supervisor.stopAll(new AbortController().signal)
    await settled()
    apply([{ ...a, queue: { ...a.queue, limit: a.queue.limit + 1 } }, b])
    expect([...supervisor.records.values()].map(({ writer }) => writer?.state.wanted)).toEqual(['disabled', 'disabled'])
    await succeed('stop')
    expect(await done).toEqual(['a'])
  })

  it('is not held up by a replica that has failed', async () => {
    const { apply, clock, running, succeed, supervisor, world } = createWorld()
    apply([a])
    await running(a)
    clock.advance(1)
    world.listed = []
    await supervisor.reconcile()
    await succeed('stop')
    const done = supervisor.stopAll(new AbortController().signal)
    await settled()
    await succeed('stop')
    expect(await done).toEqual(['a'])
  })
})

it('enabling a module with a broken manifest keeps the wish and says what is broken', async () => {
  const { apply, supervisor } = createWorld()
  const error = new BerthError('MANIFEST_INVALID', 'unknown key')
  apply([], {
    modules: [{ id: 'a', source: '/modules/a', format: 'service', error }] as unknown as DesiredState['modules'],
    disabled: new Set(['a']),
  })
  const wishes: unknown[] = []
  const service = createModuleService({
    supervisor,
    capabilities: () => ({ weaknesses: [] }) as never,
    setDisabled: (id, disabled) => wishes.push({ id, disabled }),
    setScale() {},
    add: () => Promise.reject(new Error('not asked for')),
    remove: () => Promise.reject(new Error('not asked for')),
  })
  const action = { wait: false, signal: new AbortController().signal }
  await expect(service.enable('a', action)).rejects.toBe(error)
  await expect(service.enable('unknown', action)).rejects.toMatchObject({ code: 'MODULE_NOT_FOUND' })
  expect(wishes).toEqual([{ id: 'a', disabled: false }])
})

describe('a removal', () => {
  const removing = async () => {
    const world = createWorld()
    world.apply([a])
    await world.running(a)
    const gone = Promise.withResolvers<void>()
    const service = createModuleService({
      supervisor: world.supervisor,
      capabilities: () => ({ weaknesses: [] }) as never,
      setDisabled() {},
      setScale() {},
      add: () => Promise.reject(new Error('not asked for')),
      async remove() {
        world.apply([])
        return { gone: gone.promise }
      },
    })
    return { service, gone }
  }
  const signal = new AbortController().signal

  it('that nobody waits for is answered with the module as it goes', async () => {
    const { service } = await removing()
    expect(await service.remove('a', { wait: false, signal })).toMatchObject({ id: 'a', desired: 'disabled' })
    await expect(service.remove('a', { wait: false, signal })).rejects.toMatchObject({ code: 'MODULE_NOT_FOUND' })
  })

  it('that is waited for is answered when the module is gone', async () => {
    const { service, gone } = await removing()
    const done = service.remove('a', { wait: true, signal })
    await settled()
    gone.resolve()
    expect(await done).toBeUndefined()
  })
})

describe('a restart that is waited for', () => {
  it('is not answered with the failure that it was asked for', async () => {
    const { apply, clock, running, supervisor, world } = createWorld()
    apply([a])
    await running(a)
    clock.advance(1)
    world.listed = []
    await supervisor.reconcile()
    const service = createModuleService({
      supervisor,
      capabilities: () => ({ weaknesses: [] }) as never,
      setDisabled() {},
      setScale() {},
      add: () => Promise.reject(new Error('not asked for')),
      remove: () => Promise.reject(new Error('not asked for')),
    })
    const abort = new AbortController()
    const done = service.restart('a', { wait: true, signal: abort.signal })
    let over = false
    const end = () => {
      over = true
    }
    done.then(end, end)
    await settled()
    expect(over).toBe(false)
    abort.abort()
    await expect(done).rejects.toMatchObject({ code: 'CLIENT_CLOSED' })
  })
})

describe('a scale that a user asked for', () => {
  const scaling = (more: Partial<DesiredState> = {}) => {
    const world = createWorld()
    const scales = new Map<string, { readonly min: number; readonly max: number }>()
    const apply = () =>
      world.apply([{ ...a, scale: { min: 0, max: 1, targetInflight: 3 } }], { scales: new Map(scales), ...more })
    apply()
    const service = createModuleService({
      supervisor: world.supervisor,
      capabilities: () => ({ weaknesses: [] }) as never,
      setDisabled() {},
      setScale(id, scale) {
        if (scale) scales.set(id, scale)
        else scales.delete(id)
        apply()
      },
      add: () => Promise.reject(new Error('not asked for')),
      remove: () => Promise.reject(new Error('not asked for')),
    })
    return { ...world, service }
  }
  const soon = { wait: false, signal: new AbortController().signal }

  it("wins over the manifest's, touches nothing else of it, and can be taken back", async () => {
    const { effects, service, supervisor } = scaling()
    const scaleOf = () => findModule(supervisor, 'a').state.definition.manifest.scale
    expect(await service.scale('a', { min: 1, max: 4 }, soon)).toMatchObject({ id: 'a', scale: { min: 1, max: 4 } })
    expect(scaleOf()).toEqual({ min: 1, max: 4, targetInflight: 3 })
    expect(service.list()).toMatchObject([{ scale: { min: 1, max: 4 } }])
    expect(await service.scale('a', undefined, soon)).toMatchObject({ scale: { min: 0, max: 1 } })
    expect(scaleOf()).toEqual({ min: 0, max: 1, targetInflight: 3 })
    expect(effects.count('prepare')).toBe(1)
    await expect(service.scale('b', { min: 0, max: 1 }, soon)).rejects.toMatchObject({ code: 'MODULE_NOT_FOUND' })
  })

  it('restarts nothing that runs', async () => {
    const { effects, running, service, state } = scaling()
    await running({ ...a, scale: { min: 0, max: 1, targetInflight: 3 } })
    await service.scale('a', { min: 1, max: 1 }, { ...soon, wait: true })
    expect([state('a'), effects.count('start'), effects.count('stop')]).toEqual([['ready'], 1, 0])
  })

  it('that is waited for is answered when that many are up', async () => {
    const { effects, service, succeed } = scaling()
    await succeed('prepare')
    const scaled = service.scale('a', { min: 1, max: 1 }, { ...soon, wait: true })
    let over = false
    scaled.then(() => {
      over = true
    })
    await settled()
    expect(over).toBe(false)
    effects.open('start').resolve({ id: 'a#1', endpoint: { kind: 'unix', path: '/nowhere' }, gpus: [] })
    await settled()
    expect(over).toBe(false)
    effects.open('answer').resolve({ state: 'idle', models: [] })
    expect((await scaled).replicas).toHaveLength(1)
  })

  it('that is waited for and can not be had is answered with what failed', async () => {
    const { effects, service, succeed } = scaling()
    await succeed('prepare')
    const scaled = service.scale('a', { min: 1, max: 1 }, { ...soon, wait: true })
    effects.open('start').reject(new BerthError('GPU_UNAVAILABLE', 'none is free'))
    await expect(scaled).rejects.toMatchObject({ code: 'GPU_UNAVAILABLE' })
  })

  it('of a disabled module waits for nothing', async () => {
    const { service } = scaling({ disabled: new Set(['a']) })
    expect(await service.scale('a', { min: 1, max: 1 }, { ...soon, wait: true })).toMatchObject({ scale: { min: 1 } })
  })

  it('of a module that can not be read is kept and shown', async () => {
    const { apply, service } = scaling()
    const error = new BerthError('MANIFEST_INVALID', 'unknown key')
    apply([], {
      modules: [{ id: 'c', source: '/modules/c', format: 'service', error }] as unknown as DesiredState['modules'],
      scales: new Map([['c', { min: 2, max: 2 }]]),
    })
    expect(service.get('c')).toMatchObject({ state: 'failed', scale: { min: 2, max: 2 } })
  })
})

it('a plan tells what would be done, with its cause, and does nothing', async () => {
  const { apply, effects, observed, stopped, supervisor, world } = createWorld()
  apply([a])
  world.listed = [observed(a, 3), observed(b, 1)]
  expect(await supervisor.plan()).toEqual([
    { action: 'adopt', module: 'a', replica: 'a-0', cause: 'a-0 was running already' },
    { action: 'remove', module: 'b', replica: 'b-0', cause: 'there is no module b any more' },
  ])
  expect([stopped, effects.count('answer'), supervisor.records.get('a')?.writer?.state.replicas.size]).toEqual([
    [],
    0,
    0,
  ])
})

describe('a model that is asked for', () => {
  const desired = (more: Partial<DesiredState>) => {
    const world = createWorld()
    world.apply([a], more)
    return world.supervisor
  }

  it('is found by its name and by its alias', () => {
    const supervisor = desired({ aliases: new Map([['nick', 'a']]) })
    expect(findModel(supervisor, 'a')).toMatchObject({ module: 'a', model: 'a', maxInflight: 1 })
    expect(findModel(supervisor, 'nick').model).toBe('a')
    expect(findModelOf(supervisor, 'a', 'nick').model).toBe('a')
  })

  it('is found by its module once an explicit load has named it', async () => {
    const supervisor = desired({})
    expect(() => findModelOf(supervisor, 'a', 'own')).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND' }))
    void findModule(supervisor, 'a')
      .load({ own: {} }, new AbortController().signal)
      .catch(() => {})
    expect(findModelOf(supervisor, 'a', 'own').model).toBe('own')
    expect(() => findModel(supervisor, 'own')).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND' }))
  })

  it('has an error that says what is missing', () => {
    const conflict = new BerthError('CONFIG_INVALID', 'in two modules')
    const supervisor = desired({
      models: new Map([['lost', testModel('lost', { module: 'gone' })]]),
      modelErrors: new Map([['twice', conflict]]),
    })
    const codeOf = (name: string) => {
      try {
        findModel(supervisor, name)
      } catch (error) {
        return (error as BerthError).code
      }
      return undefined
    }
    expect([codeOf('unknown'), codeOf('lost'), codeOf('twice')]).toEqual([
      'MODEL_NOT_FOUND',
      'MODULE_NOT_FOUND',
      'CONFIG_INVALID',
    ])
    expect(() => findModule(supervisor, 'gone')).toThrow(expect.objectContaining({ code: 'MODULE_NOT_FOUND' }))
  })
})
