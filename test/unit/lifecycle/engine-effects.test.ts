import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { ModuleTimeouts } from '../../../orchestrator/domain/manifest.ts'
import { engineEffects } from '../../../orchestrator/lifecycle/engine-effects.ts'
import type { ModuleDefinition } from '../../../orchestrator/lifecycle/state.ts'
import { defineModule } from '../../../orchestrator/lifecycle/workload.ts'
import { createStore } from '../../../orchestrator/store/store.ts'
import { testManifest, testModel } from '../../support/definitions.ts'
import { MemoryEngine, MemoryWorld, type ModuleScript } from '../../support/memory-engine.ts'
import { tempFolder } from '../../support/temp-folder.ts'

const instance = { id: 'test', secret: 'secret' }
const replica = { id: 'mod-0', generation: 1 }
const never = () => new AbortController().signal

function defined(timeouts: Partial<ModuleTimeouts> = {}, requirements = false): ModuleDefinition {
  const defaults = testManifest()
  const manifest = testManifest({
    source: { kind: 'folder', path: import.meta.dirname },
    timeouts: { ...defaults.timeouts, ...timeouts },
    ...(requirements ? { requirements: { extra: ['numpy'], hash: 'r1', empty: false } } : {}),
  })
  return defineModule(instance, manifest, new Map([['m', testModel('m')]]))
}

/** The effects on the engine in memory, whose module does what the script says. */
function createEffects(script: ModuleScript = {}, ready: () => Promise<void> = () => Promise.resolve()) {
  const world = new MemoryWorld(() => script)
  const engine = new MemoryEngine({ instance: instance.id, world })
  onTestFinished(() => world.dispose())
  const store = createStore(tempFolder())
  onTestFinished(() => store.close())
  let generation = 0
  const effects = engineEffects({
    engine,
    instance,
    nextGeneration: () => {
      generation += 1
      return generation
    },
    loaded: store.loaded,
    ready,
    followLog() {},
  })
  async function started(definition: ModuleDefinition) {
    const workload = await effects.start(definition, replica, [], never())
    const client = effects.connect(definition, replica, workload)
    onTestFinished(() => client.close())
    return { workload, client }
  }
  return { world, engine, effects, started }
}

const forever = () => new Promise<never>(() => {})

describe('a start', () => {
  it('is answered by a runner that knows the token', async () => {
    const definition = defined()
    const { effects, started } = createEffects()
    const { workload, client } = await started(definition)
    expect(await effects.awaitAnswer(definition, workload, client, never())).toEqual({ state: 'idle', models: [] })
    expect(await effects.load(definition, client, { m: {} }, never())).toEqual(['m'])
    expect(await effects.offload(definition, client, ['m'], never())).toEqual(['m'])
  })

  it('waits for a module that takes its time to be imported', async () => {
    const imported = Promise.withResolvers<void>()
    const definition = defined()
    const { effects, started } = createEffects({ runner: { importModule: () => imported.promise } })
    const { workload, client } = await started(definition)
    const health = effects.awaitAnswer(definition, workload, client, never())
    imported.resolve()
    expect((await health).state).toBe('idle')
  })

  it('of a module that can not be imported fails with its error', async () => {
    const definition = defined()
    const importModule = () => Promise.reject(new BerthError('LOAD_FAILED', 'SyntaxError', { traceback: 't' }))
    const { effects, started } = createEffects({ runner: { importModule } })
    const { workload, client } = await started(definition)
    await expect(effects.awaitAnswer(definition, workload, client, never())).rejects.toMatchObject({
      code: 'LOAD_FAILED',
      details: { traceback: 't' },
    })
  })

  it('past timeouts.start is START_TIMEOUT', async () => {
    const definition = defined({ startMs: 60 })
    const { effects, started } = createEffects({ runner: { importModule: forever } })
    const { workload, client } = await started(definition)
    await expect(effects.awaitAnswer(definition, workload, client, never())).rejects.toMatchObject({
      code: 'START_TIMEOUT',
    })
  })

  it('whose workload ends meanwhile is not waited for, and tells its last lines', async () => {
    const definition = defined()
    const { effects, started, world } = createEffects({
      runner: (log) => {
        log('Segmentation fault')
        return { importModule: forever }
      },
    })
    const { workload, client } = await started(definition)
    await world.end(workload.id, { signal: 'SIGSEGV' })
    await expect(effects.awaitAnswer(definition, workload, client, never())).rejects.toMatchObject({
      code: 'WORKLOAD_EXITED',
      details: { signal: 'SIGSEGV', lines: expect.arrayContaining(['Segmentation fault']) },
    })
  })

  it('ends with its signal', async () => {
    const definition = defined()
    const { effects, started } = createEffects({ runner: { importModule: forever } })
    const { workload, client } = await started(definition)
    const abort = new AbortController()
    const health = effects.awaitAnswer(definition, workload, client, abort.signal)
    abort.abort()
    await expect(health).rejects.toBeDefined()
  })

  it('waits until the engine may be used, and fails with the reason why it may not', async () => {
    const away = new BerthError('ENGINE_UNAVAILABLE', 'no socket')
    const { effects } = createEffects({}, () => Promise.reject(away))
    await expect(effects.start(defined(), replica, [], never())).rejects.toBe(away)
    await expect(effects.prepare(defined(), never(), () => {})).rejects.toBe(away)
  })
})

describe('a runner that answers no more', () => {
  it('is explained by the end of its workload, also where the engine learns of it late', async () => {
    const definition = defined()
    const { effects, started, world } = createEffects()
    const { workload } = await started(definition)
    const why = effects.whyEnded(definition, workload)
    await new Promise((resolve) => setImmediate(resolve))
    await world.end(workload.id, { code: 3 })
    expect(await why).toMatchObject({ code: 'WORKLOAD_EXITED', details: { exitCode: 3 } })
  })

  it('is not explained by an engine that is away', async () => {
    const definition = defined()
    const { effects, started, world } = createEffects()
    const { workload } = await started(definition)
    world.unreachable = true
    expect(await effects.whyEnded(definition, workload)).toBeUndefined()
  })
})

describe('a preparation', () => {
  it('reports its progress and answers the environment', async () => {
    const { effects } = createEffects({ install: async (line) => line('Installing numpy') })
    const lines: unknown[] = []
    const environment = await effects.prepare(defined({}, true), never(), ({ line }) => lines.push(line))
    expect(environment?.key).toBeTypeOf('string')
    expect(lines).toEqual(['Installing numpy'])
  })

  it('past timeouts.install is REQUIREMENTS_FAILED', async () => {
    const { effects } = createEffects({ install: forever })
    await expect(effects.prepare(defined({ installMs: 30 }, true), never(), () => {})).rejects.toMatchObject({
      code: 'REQUIREMENTS_FAILED',
      message: expect.stringContaining('timeouts.install'),
    })
  })

  it('may take longer than any timer', async () => {
    const installed = Promise.withResolvers<void>()
    const { effects } = createEffects({ install: () => installed.promise })
    const prepared = effects.prepare(defined({ installMs: 60 * 86_400_000 }, true), never(), () => {})
    await new Promise((resolve) => setImmediate(resolve))
    installed.resolve()
    await expect(prepared).resolves.toBeDefined()
  })
})

describe('a load', () => {
  it('past timeouts.load is LOAD_TIMEOUT, an offload past timeouts.call as well', async () => {
    const definition = defined({ loadMs: 30, callMs: 30 })
    const { effects, started } = createEffects({
      runner: { load: async (models) => ('slow' in models ? forever() : undefined), offload: forever },
    })
    const { client } = await started(definition)
    await expect(effects.load(definition, client, { slow: {} }, never())).rejects.toMatchObject({
      code: 'LOAD_TIMEOUT',
      details: { models: ['slow'] },
    })
    await effects.load(defined(), client, { m: {} }, never())
    await expect(effects.offload(definition, client, ['m'], never())).rejects.toMatchObject({ code: 'LOAD_TIMEOUT' })
  })
})

describe('a stop', () => {
  it('is done when the workload is gone, also when it was never known or is gone already', async () => {
    const definition = defined()
    const { effects, started, world } = createEffects()
    const { workload } = await started(definition)
    await effects.stop(definition, replica, undefined, 1_000)
    expect(world.workloads.size).toBe(0)
    await effects.stop(definition, replica, workload, 1_000)
    await effects.stop(definition, { id: 'mod-0', generation: 9 }, undefined, 0)
  })

  it('leaves another generation alone', async () => {
    const definition = defined()
    const { effects, started, world } = createEffects()
    await started(definition)
    await effects.stop(definition, { id: 'mod-0', generation: 9 }, undefined, 0)
    expect(world.workloads.size).toBe(1)
  })

  it('goes on where the engine could not end it: nothing else may start under its name', async () => {
    const definition = defined()
    const { effects, engine, started, world } = createEffects()
    const { workload } = await started(definition)
    const stop = vi.spyOn(engine, 'stop').mockRejectedValueOnce(new Error('could not kill container'))
    await effects.stop(definition, replica, workload, 0)
    expect(stop).toHaveBeenCalledTimes(2)
    expect(world.workloads.size).toBe(0)
  })

  it('is over where it has ended and only its remains do not go', async () => {
    const definition = defined()
    const { effects, engine, started, world } = createEffects()
    const { workload } = await started(definition)
    await world.end(workload.id, { code: 0 })
    vi.spyOn(engine, 'stop').mockRejectedValue(new Error('device or resource busy'))
    await expect(effects.stop(definition, replica, workload, 0)).rejects.toThrow('busy')
  })

  it('waits for an engine that is away', async () => {
    const definition = defined()
    const { effects, engine, started, world } = createEffects()
    const { workload } = await started(definition)
    const stop = vi.spyOn(engine, 'stop').mockRejectedValueOnce(new BerthError('ENGINE_UNAVAILABLE', 'away'))
    await effects.stop(definition, replica, workload, 0)
    expect(stop).toHaveBeenCalledTimes(2)
    expect(world.workloads.size).toBe(0)
  })
})
