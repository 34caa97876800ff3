import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createRig, settled } from './rig.ts'

const loadFailed = new BerthError('LOAD_FAILED', 'no such file', {}, { origin: 'module' })
const started = (rig: ReturnType<typeof createRig>) => rig.effects.count('start')

describe('a request for a cold module', () => {
  it('prepares, starts, loads and is granted', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    expect(rig.replica?.state).toBe('starting')
    await rig.answering()
    expect(rig.effects.open('load').models).toEqual({ m: {} })
    expect(asked.granted).toBeUndefined()
    await rig.loaded()
    expect(asked.granted).toMatchObject({ module: 'mod', replica: 'mod-0', generation: 1, model: 'm' })
    expect(rig.replica).toMatchObject({ state: 'ready', inflight: 1 })
    expect(rig.told).toEqual([
      'prepared ready',
      'mod-0#1 absent -> preparing',
      'mod-0#1 preparing -> starting',
      'up #1',
      'mod-0#1 starting -> idle',
      'mod-0#1 idle -> loading',
      'mod-0#1 loading -> ready',
    ])
  })

  it('is told how long it waited for start and load', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    rig.clock.advance(100)
    await rig.prepared()
    await rig.started()
    rig.clock.advance(400)
    await rig.answering()
    rig.clock.advance(70)
    await rig.loaded()
    expect(asked.granted?.waited).toEqual({ startMs: 500, loadMs: 70 })
    const next = rig.acquire('m', { maxInflight: 2 })
    await settled()
    expect(next.granted?.waited).toEqual({ startMs: 0, loadMs: 0 })
  })

  it('joins the start under way when it is the second', async () => {
    const rig = createRig()
    const first = rig.acquire('m', { maxInflight: 2 })
    await rig.prepared()
    const second = rig.acquire('m', { maxInflight: 2 })
    await rig.started()
    await rig.answering()
    await rig.loaded()
    expect(first.granted).toBeDefined()
    expect(second.granted).toBeDefined()
    expect([rig.effects.count('prepare'), started(rig), rig.effects.count('load')]).toEqual([1, 1, 1])
  })

  it('leaves without cancelling the start for the others', async () => {
    const rig = createRig()
    const first = rig.acquire()
    await rig.prepared()
    await rig.started()
    const second = rig.acquire()
    first.abort.abort()
    await settled()
    expect(first.error?.code).toBe('CLIENT_CLOSED')
    expect(rig.effects.open('answer').signal?.aborted).toBe(false)
    await rig.answering()
    await rig.loaded()
    expect(second.granted).toBeDefined()
  })

  it.each(['prepare', 'start', 'answer', 'load'] as const)(
    'that leaves during %s is settled at once',
    async (stage) => {
      const rig = createRig()
      const asked = rig.acquire()
      if (stage !== 'prepare') await rig.prepared()
      if (stage === 'answer' || stage === 'load') await rig.started()
      if (stage === 'load') await rig.answering()
      const under = rig.effects.open(stage)
      asked.abort.abort(new BerthError('SHUTTING_DOWN', 'closing'))
      await settled()
      expect(asked.error?.code).toBe('SHUTTING_DOWN')
      expect(under.signal?.aborted).toBe(false)
      expect(rig.state.waiters).toEqual([])
    },
  )

  it('whose client has gone already starts nothing', async () => {
    const rig = createRig()
    const asked = rig.acquire('m', { signal: AbortSignal.abort() })
    await settled()
    expect(asked.error?.code).toBe('CLIENT_CLOSED')
    expect(rig.effects.calls).toEqual([])
  })

  it('finds its environment prepared when the module was there before', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    expect(started(rig)).toBe(0)
    rig.acquire()
    expect(started(rig)).toBe(1)
  })

  it('is served by a runner that has the model loaded already', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering(['m'])
    expect(asked.granted).toBeDefined()
    expect(rig.effects.count('load')).toBe(0)
  })
})

describe('a failed preparation', () => {
  const error = new BerthError('REQUIREMENTS_FAILED', 'no matching distribution')

  it('is told to everyone who waits, explicit loads included', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    const load = rig.work((signal) => rig.writer.load({ m: {} }, signal))
    await rig.failing('prepare', error)
    expect(asked.error).toBe(error)
    expect(load.error).toBe(error)
    expect(rig.effects.count('prepare')).toBe(1)
  })

  it('is tried again on the next request, after the back-off', async () => {
    const rig = createRig()
    rig.acquire()
    await rig.failing('prepare', error)
    const asked = rig.acquire()
    await settled()
    expect(rig.effects.count('prepare')).toBe(1)
    rig.clock.advance(500)
    expect(rig.effects.count('prepare')).toBe(2)
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.loaded()
    expect(asked.granted).toBeDefined()
  })

  it('that keeps failing is told at once, with the time to wait', async () => {
    const rig = createRig()
    for (let failures = 0; failures < 4; failures += 1) {
      rig.clock.advance(60_000)
      rig.acquire()
      await rig.failing('prepare', error)
    }
    const asked = rig.acquire()
    await settled()
    expect(asked.error).toMatchObject({ code: 'REQUIREMENTS_FAILED', details: { retryAfterSeconds: 4 } })
    expect(rig.effects.count('prepare')).toBe(4)
  })

  it('is not tried again without anyone asking', async () => {
    const rig = createRig()
    rig.writer.post({ type: 'tick' })
    await rig.failing('prepare', error)
    expect(rig.clock.advance(3_600_000)).toBe(0)
    expect(rig.effects.count('prepare')).toBe(1)
  })

  it('keeps what it was doing for the view', async () => {
    const rig = createRig()
    rig.acquire()
    rig.effects.open('prepare').onProgress?.({ phase: 'environment', message: 'Installing', environmentKey: 'key' })
    await rig.failing('prepare', error)
    expect(rig.state.preparation).toMatchObject({ state: 'failed', error, progress: { environmentKey: 'key' } })
  })
})

describe('a failed start', () => {
  it('is told to everyone who waits, is counted once, and removes its workload first', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.failing('answer', new BerthError('START_TIMEOUT', 'no answer'))
    expect(asked.error).toBeUndefined()
    expect(rig.replica?.state).toBe('starting')
    await rig.stopped()
    expect(asked.error?.code).toBe('START_TIMEOUT')
    expect(rig.replica).toMatchObject({ state: 'failed', restarts: 1 })
    expect(rig.told.filter((line) => line.startsWith('crashed'))).toEqual(['crashed #1: no answer'])
    expect(rig.effects.count('stop')).toBe(1)
  })

  it('keeps its own error when the removal fails as well', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.failing('answer', new BerthError('START_TIMEOUT', 'no answer'))
    await rig.failing('stop', new Error('the engine says no'))
    expect(asked.error?.code).toBe('START_TIMEOUT')
  })

  it('is followed by a back-off that grows, and by a new generation', async () => {
    const rig = createRig()
    const delays: number[] = []
    for (let failures = 1; failures <= 3; failures += 1) {
      rig.acquire()
      if (failures === 1) await rig.prepared()
      let waited = 0
      while (started(rig) < failures) {
        rig.clock.advance(100)
        waited += 100
      }
      delays.push(waited)
      await rig.failing('start', new BerthError('IMAGE_UNAVAILABLE', 'gone'))
    }
    expect(delays).toEqual([0, 500, 1_000])
    expect(rig.replica).toMatchObject({ generation: 3, restarts: 3 })
  })

  it('whose number the full disk does not take is told, and tried again after the back-off', async () => {
    const rig = createRig()
    rig.effects.storeFault = new BerthError('INTERNAL', 'database or disk is full')
    const asked = rig.acquire()
    await rig.prepared()
    expect(asked.error).toMatchObject({ code: 'INTERNAL', message: 'database or disk is full' })
    expect(started(rig)).toBe(0)
    rig.effects.storeFault = undefined
    const next = rig.acquire()
    rig.clock.advance(500)
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.loaded()
    expect(next.granted).toMatchObject({ generation: 1 })
  })

  it('while min replicas are wanted is tried again without a request', async () => {
    const rig = createRig({ manifest: { scale: { min: 1, max: 1 } } })
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    await rig.failing('start', new BerthError('ENGINE_UNAVAILABLE', 'away'))
    rig.clock.advance(500)
    expect(started(rig)).toBe(2)
  })

  it('that took longer than a healthy replica has to live is a failure like any other', async () => {
    const rig = createRig({ manifest: { scale: { min: 1, max: 1 } } })
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    for (let count = 1; count <= 5; count += 1) {
      await rig.started()
      rig.clock.advance(60_000)
      await rig.failing('answer', new BerthError('START_TIMEOUT', 'no answer within 60 s'))
      await rig.stopped()
      expect(rig.replica?.failure.count).toBe(count)
      rig.clock.advance(60_000)
      await settled()
    }
  })

  it('can be for want of an end: who waits for a workload that the engine does not end is told', async () => {
    const rig = createRig()
    await rig.ready()
    rig.writer.post({ type: 'restart' })
    await rig.prepared()
    const asked = rig.acquire()
    const load = rig.work((signal) => rig.writer.load({ m: {} }, signal))
    rig.clock.advance(90_000)
    await settled()
    expect(asked.error).toBeUndefined()
    rig.clock.advance(60_000)
    await settled()
    expect(asked.error).toMatchObject({ code: 'ENGINE_UNAVAILABLE', details: { replicas: ['mod-0'] } })
    expect(load.error).toMatchObject({ code: 'ENGINE_UNAVAILABLE' })
  })
})

describe('a failed load', () => {
  it("rejects those who wait for that model, and nobody else's", async () => {
    const rig = createRig({ models: { m: {}, other: {} } })
    const asked = rig.acquire('m')
    const other = rig.acquire('other')
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.failing('load', loadFailed)
    expect(asked.error).toBe(loadFailed)
    expect(other.error).toBeUndefined()
    expect(rig.effects.open('load').names).toEqual(['other'])
    await rig.loaded()
    expect(other.granted).toBeDefined()
    expect(rig.effects.count('start')).toBe(1)
  })

  it('is tried again by the next request', async () => {
    const rig = createRig()
    rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.failing('load', loadFailed)
    expect(rig.replica).toMatchObject({ state: 'idle', error: loadFailed })
    const asked = rig.acquire()
    await rig.loaded()
    expect(asked.granted).toBeDefined()
    expect(rig.replica?.error).toBeUndefined()
  })

  it('that took too long has the health asked, and nothing is granted until it has answered', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.failing('load', new BerthError('LOAD_TIMEOUT', 'too long'))
    expect(asked.error?.code).toBe('LOAD_TIMEOUT')
    const next = rig.acquire()
    await settled()
    expect(rig.effects.count('load')).toBe(1)
    await rig.healthy([])
    await rig.loaded()
    expect(next.granted).toBeDefined()
  })

  it('that took too long keeps the next load back as well', async () => {
    const rig = createRig({ models: { m: {}, other: {} } })
    rig.acquire()
    const other = rig.acquire('other')
    await rig.prepared()
    await rig.started()
    await rig.answering()
    await rig.failing('load', new BerthError('LOAD_TIMEOUT', 'too long'))
    expect(rig.effects.count('load')).toBe(1)
    await rig.healthy([])
    await rig.loaded()
    expect(other.granted).toBeDefined()
  })

  it('whose workload has ended says how', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering()
    rig.effects.ended = new BerthError('OUT_OF_MEMORY', 'it ran out of memory')
    await rig.failing('load', new BerthError('RUNNER_UNREACHABLE', 'broke'))
    expect(asked.error).toBe(rig.effects.ended)
  })

  it('is what an answer amounts to that does not name the model', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering()
    rig.effects.open('load').resolve([])
    await settled()
    expect(asked.error?.code).toBe('RUNNER_PROTOCOL')
    expect(rig.effects.count('load')).toBe(1)
  })
})

describe('late news', () => {
  it('of an older generation changes nothing', async () => {
    const rig = createRig()
    await rig.ready()
    await rig.exits()
    rig.clock.advance(500)
    await rig.started()
    await rig.answering()
    const before = JSON.stringify(rig.replica)
    const old = { replica: 'mod-0', generation: 1 }
    const error = new BerthError('WORKLOAD_EXITED', 'late')
    for (const event of [
      { type: 'started', workload: rig.workload(1), ...old },
      { type: 'answering', models: ['m'], ...old },
      { type: 'start-failed', error, ...old },
      { type: 'loaded', models: ['m'], ...old },
      { type: 'load-failed', models: ['m'], error, ...old },
      { type: 'offloaded', models: ['m'], ...old },
      { type: 'suspect', ...old },
      { type: 'health', models: [], ...old },
      { type: 'condemn', error, ...old },
      { type: 'exited', error, ...old },
      { type: 'stopped', ...old },
    ] as const) {
      rig.writer.post(event)
    }
    expect(JSON.stringify(rig.replica)).toBe(before)
  })

  it('of a load whose replica has crashed does not make its model loaded', async () => {
    const rig = createRig()
    rig.acquire()
    await rig.prepared()
    await rig.started()
    await rig.answering()
    rig.effects.deaf = true
    await rig.exits()
    expect(rig.replica?.state).toBe('failed')
    await rig.loaded()
    expect(rig.replica?.models.size ?? 0).toBe(0)
  })
})
