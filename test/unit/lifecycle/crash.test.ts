import { describe, expect, it } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createRig, everythingWorks, type Rig, settled } from './rig.ts'

/** The next generation, up to its loads. */
async function restarted(rig: Rig): Promise<void> {
  rig.clock.advance(500)
  await rig.started()
  await rig.answering()
}

describe('a workload that ends', () => {
  it('while it is ready is started again after a back-off, with what it had loaded', async () => {
    const rig = createRig()
    await rig.ready()
    await rig.exits({ code: 3 })
    expect(rig.replica).toMatchObject({ state: 'failed', restarts: 1, inflight: 0 })
    expect(rig.replica?.error).toMatchObject({ code: 'WORKLOAD_EXITED', details: { exitCode: 3 } })
    expect(rig.replica?.error?.message).toContain('exit code 3')
    await restarted(rig)
    expect(rig.effects.open('load').names).toEqual(['m'])
    await rig.loaded()
    expect(rig.replica).toMatchObject({ state: 'ready', generation: 2, restarts: 1 })
    expect(rig.state.waiters).toEqual([])
  })

  it.each([0.5, 1.5, 2.5, 3.5])(
    'is started again also where a timer runs %d ms early and time passes',
    async (earlyMs) => {
      const rig = createRig()
      await rig.ready()
      await rig.exits({ code: 3 })
      Object.assign(rig.clock, { earlyMs, passingMs: 1 })
      rig.clock.advance(10_000)
      expect(rig.effects.count('start')).toBe(2)
    },
  )

  it('by a signal or for want of memory says so', async () => {
    const rig = createRig()
    await rig.ready()
    await rig.exits({ signal: 'SIGSEGV' })
    expect(rig.replica?.error).toMatchObject({ code: 'WORKLOAD_EXITED', details: { signal: 'SIGSEGV' } })
    await restarted(rig)
    await rig.loaded()
    await rig.exits({ outOfMemory: true })
    expect(rig.replica?.error?.code).toBe('OUT_OF_MEMORY')
  })

  it('while requests wait keeps them waiting for the next generation', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    const second = rig.acquire()
    await settled()
    await rig.exits()
    first.granted?.release('lost')
    await restarted(rig)
    await rig.loaded()
    expect(second.error).toBeUndefined()
    expect(second.granted?.generation).toBe(2)
  })

  it('while it loads rejects those who wait for that model, and brings back what was loaded', async () => {
    const rig = createRig({ models: { m: {}, big: {}, small: {} } })
    await rig.ready()
    const asked = rig.acquire('big')
    const other = rig.acquire('small')
    await settled()
    expect(rig.replica?.state).toBe('loading')
    await rig.exits({ outOfMemory: true })
    expect(asked.error?.code).toBe('OUT_OF_MEMORY')
    expect(other.error).toBeUndefined()
    await restarted(rig)
    const loads: (readonly string[] | undefined)[] = []
    for (let count = 0; count < 2; count += 1) {
      loads.push(rig.effects.open('load').names)
      await rig.loaded()
    }
    expect(loads.flat().sort()).toEqual(['m', 'small'])
    expect(other.granted).toBeDefined()
  })

  it('while it starts is told to everyone who waits, and removed', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    const answer = rig.effects.open('answer')
    rig.effects.lines = ['starts', 'no such file']
    await rig.exits({ code: 1 })
    expect(answer.signal?.aborted).toBe(true)
    expect(rig.replica).toMatchObject({ state: 'starting' })
    rig.effects.open('stop').resolve(undefined)
    await settled()
    expect(asked.error).toMatchObject({
      code: 'WORKLOAD_EXITED',
      details: { exitCode: 1, lines: ['starts', 'no such file'] },
    })
    expect(asked.error?.message).toContain('no such file')
    expect(rig.replica).toMatchObject({ state: 'failed', restarts: 1 })
  })

  it('because its start has failed is no news: the start says why', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    rig.effects.open('answer').reject(new BerthError('LOAD_FAILED', 'no SERVICE_INFERENCE'))
    await settled()
    await rig.exits({ signal: 'SIGKILL' })
    expect(asked.error).toBeUndefined()
    rig.effects.open('stop').resolve(undefined)
    await settled()
    expect(asked.error?.code).toBe('LOAD_FAILED')
  })

  it('fails the explicit load that it was carrying out', async () => {
    const rig = createRig()
    await rig.ready()
    const load = rig.work((signal) => rig.writer.load({ m: { size: 2 } }, signal))
    await rig.exits()
    expect(load.error?.code).toBe('WORKLOAD_EXITED')
  })

  it('is counted as the first failure again when it had lived for long', async () => {
    const rig = createRig()
    await rig.ready()
    await rig.exits()
    await restarted(rig)
    await rig.loaded()
    expect(rig.replica?.failure.count).toBe(1)
    rig.clock.advance(60_000)
    await rig.exits()
    expect(rig.replica?.failure.count).toBe(1)
  })

  it('again and again is not brought back any more without a request', async () => {
    const rig = createRig()
    await rig.ready()
    for (let crashes = 1; crashes <= 3; crashes += 1) {
      await rig.exits()
      rig.clock.advance(10_000)
      await rig.started()
      await rig.answering()
      await rig.loaded()
    }
    await rig.exits()
    expect(rig.effects.count('start')).toBe(4)
    expect(rig.clock.advance(3_600_000)).toBe(0)
    expect(rig.effects.count('start')).toBe(4)
    rig.acquire()
    expect(rig.effects.count('start')).toBe(5)
  })

  it('was removed by somebody else when a listing does not show it', async () => {
    const rig = createRig()
    await rig.ready()
    rig.clock.advance(1)
    rig.writer.observe([], rig.clock.now())
    expect(rig.replica?.error?.message).toContain('removed by somebody else')
  })

  it('is not taken for gone by a listing that began before it was started', async () => {
    const rig = createRig()
    rig.acquire()
    await rig.prepared()
    rig.clock.advance(10)
    const listedMs = rig.clock.now()
    rig.clock.advance(10)
    await rig.started()
    rig.writer.observe([], listedMs)
    expect(rig.replica?.state).toBe('starting')
  })

  it('finds nothing left of failures that came before an earlier start', async () => {
    const rig = createRig({ manifest: { scale: { min: 1, max: 1 } } })
    rig.writer.post({ type: 'tick' })
    for (let count = 0; count < 6; count += 1) {
      await rig.failing('prepare', new BerthError('REQUIREMENTS_FAILED', 'no such package'))
      rig.clock.advance(60_000)
      await settled()
    }
    await everythingWorks(rig)
    expect(rig.replica?.state).toBe('idle')
    rig.effects.storeFault = new Error('disk full')
    await rig.exits()
    rig.clock.advance(500)
    rig.effects.storeFault = undefined
    rig.clock.advance(500)
    await everythingWorks(rig)
    expect(rig.replica?.state).toBe('idle')
  })
})

describe('a lease given back as lost', () => {
  it('has the health asked before anything else is granted', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    const second = rig.acquire()
    await settled()
    first.granted?.release('lost')
    await settled()
    expect(second.granted).toBeUndefined()
    await rig.healthy(['m'])
    expect(second.granted?.generation).toBe(1)
  })

  it('leads to the loads that the new worker needs', async () => {
    const rig = createRig({ models: { m: {}, other: {} } })
    await rig.ready()
    const both = rig.acquire('other')
    await rig.loaded()
    both.granted?.release('lost')
    await settled()
    await rig.healthy([])
    for (let count = 0; count < 2; count += 1) await rig.loaded()
    expect([...(rig.replica?.models.keys() ?? [])].sort()).toEqual(['m', 'other'])
    expect(rig.effects.count('start')).toBe(1)
    expect(rig.state.waiters).toEqual([])
  })

  it.each([
    ['lost', 'exited'],
    ['out-of-memory', 'out-of-memory'],
  ] as const)('counts once as a restart, by its cause (%s)', async (outcome, kind) => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release(outcome)
    await settled()
    expect(rig.crashes).toEqual([])
    await rig.healthy([])
    await rig.loaded()
    expect(rig.crashes).toEqual([kind])
  })

  it('that is there after all, with its models, counts as none', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release('out-of-memory')
    await settled()
    await rig.healthy(['m'])
    expect(rig.crashes).toEqual([])
  })

  it('leads to a new generation when nothing answers, after a back-off', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release('lost')
    await settled()
    await rig.failing('health', new BerthError('RUNNER_UNREACHABLE', 'refused'))
    expect(rig.replica?.state).toBe('stopping')
    await rig.stopped()
    expect(rig.replica).toMatchObject({ state: 'failed', restarts: 1 })
    expect(rig.replica?.error?.code).toBe('RUNNER_UNREACHABLE')
    expect(rig.effects.count('start')).toBe(1)
    expect(rig.effects.count('stop')).toBe(1)
    await restarted(rig)
    await rig.loaded()
    expect(rig.replica).toMatchObject({ state: 'ready', generation: 2 })
  })

  it('says how the workload has ended where that is why nothing answers', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release('lost')
    await settled()
    rig.effects.ended = new BerthError('WORKLOAD_EXITED', 'exit code 3')
    await rig.failing('health', new BerthError('RUNNER_UNREACHABLE', 'refused'))
    await rig.stopped()
    expect(rig.replica?.error).toBe(rig.effects.ended)
  })

  it('of a runner that has failed without a reason replaces it', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release('lost')
    await settled()
    rig.effects.open('health').resolve({ state: 'failed', models: [] })
    await settled()
    expect(rig.replica?.state).toBe('stopping')
  })

  it('after its replica has gone changes nothing', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    await rig.exits()
    await restarted(rig)
    await rig.loaded()
    first.granted?.release('lost')
    await settled()
    expect(rig.replica).toMatchObject({ state: 'ready', suspicion: 'none', inflight: 0 })
  })
})

describe('a runner that refuses the token', () => {
  const refused = new BerthError('RUNNER_PROTOCOL', 'refused', { refused: 'token' })

  it('is another than the one that was started: its replica is replaced, whatever its health says', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    first.granted?.release('stranger')
    await settled()
    expect(rig.effects.count('health')).toBe(0)
    await rig.stopped()
    await restarted(rig)
    await rig.loaded()
    expect(rig.replica).toMatchObject({ state: 'ready', generation: 2 })
  })

  it('at a load is replaced too', async () => {
    const rig = createRig()
    await rig.idle()
    await rig.failing('load', refused)
    expect(rig.replica?.state).toBe('stopping')
    expect(rig.effects.count('health')).toBe(0)
  })
})

describe('a lease given back as hung', () => {
  it('condemns the replica before the next is granted on it', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    const second = rig.acquire()
    await settled()
    first.granted?.release('hung')
    await settled()
    expect(second.granted).toBeUndefined()
    expect(rig.effects.open('stop')).toMatchObject({ replica: { generation: 1 }, graceMs: 0 })
    expect(rig.effects.count('start')).toBe(1)
    await rig.stopped()
    await restarted(rig)
    await rig.loaded()
    expect(second.granted?.generation).toBe(2)
  })

  it('ends with nothing when the module was disabled meanwhile', async () => {
    const rig = createRig()
    await rig.ready()
    const first = rig.acquire()
    await settled()
    rig.writer.post({ type: 'want', wanted: 'disabled' })
    first.granted?.release('hung')
    await settled()
    await rig.stopped()
    expect(rig.state.replicas.size).toBe(0)
  })
})

describe('a check of health', () => {
  it('concludes from replicas that are idle what they have loaded, and from no others', async () => {
    const rig = createRig()
    await rig.ready()
    const busy = rig.acquire()
    await settled()
    rig.writer.checkHealth()
    rig.writer.checkHealth()
    expect(rig.effects.count('health')).toBe(1)
    await rig.healthy([])
    expect(rig.replica?.models.has('m')).toBe(true)
    busy.granted?.release()
    rig.writer.checkHealth()
    rig.writer.checkHealth()
    expect(rig.effects.count('health')).toBe(2)
    await rig.healthy(['m'])
    expect(rig.replica?.state).toBe('ready')
  })

  it('replaces one that is at work and silent three times in a row: it is frozen', async () => {
    const rig = createRig()
    await rig.ready()
    rig.acquire()
    await settled()
    const silence = async () => {
      rig.writer.checkHealth()
      await rig.failing('health', new BerthError('RUNNER_UNREACHABLE', 'no answer'))
    }
    await silence()
    await silence()
    rig.writer.checkHealth()
    await rig.healthy(['m'])
    await silence()
    await silence()
    expect(rig.effects.count('stop')).toBe(0)
    await silence()
    expect(rig.effects.open('stop').graceMs).toBe(0)
    await rig.stopped()
    expect(rig.replica).toMatchObject({ state: 'failed', error: { code: 'RUNNER_UNREACHABLE' } })
  })

  it('learns of models that the runner has loaded itself', async () => {
    const rig = createRig({ models: { m: {}, other: {} } })
    await rig.ready()
    rig.writer.checkHealth()
    await rig.healthy(['m', 'other'])
    const asked = rig.acquire('other')
    await settled()
    expect(asked.granted).toBeDefined()
    expect(rig.effects.count('load')).toBe(1)
  })
})
