import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createDispatcher } from '../../../orchestrator/inference/dispatcher.ts'
import type { InferenceRequest, InferenceSink, InferenceTimings } from '../../../orchestrator/inference/types.ts'
import { chunkLine, doneLine, FakeRoute } from '../../support/fake-lease.ts'

const request: InferenceRequest = {
  model: 'm',
  config: { a: 1 },
  parameters: { text: 'hi' },
  keyInfo: { Key: 'nokey' },
  requestId: 'r-1',
  caller: 'key:ci',
  priority: 'high',
}

/** An inference, what its sink was told, and what was counted. */
function dispatched(route = new FakeRoute(), more: Partial<InferenceRequest> = {}) {
  const told: string[] = []
  const counted: string[] = []
  const sink: InferenceSink & { timings: InferenceTimings | undefined; takes: boolean } = {
    timings: undefined,
    takes: true,
    queued: (position) => void told.push(`queued ${position}`),
    begin(timings) {
      told.push('begin')
      this.timings = timings
    },
    data(bytes) {
      told.push(`data ${bytes.toString()}`)
      return this.takes
    },
    end: () => void told.push('end'),
    fail: (error) => void told.push(`fail ${error.code}`),
  }
  const dispatcher = createDispatcher({
    route: () => route,
    watch: () => ({
      queued: () => void counted.push('queued'),
      started: () => void counted.push('started'),
      firstChunk: () => void counted.push('first'),
      ended: (outcome) => void counted.push(outcome),
    }),
  })
  const inference = dispatcher.dispatch({ ...request, ...more }, sink)
  const granted = async () => {
    route.waiting[0]?.grant()
    await setImmediate()
    const call = route.calls[0]
    if (!call) throw new Error('The runner was not asked')
    return call
  }
  return { route, told, counted, sink, inference, granted }
}

afterEach(() => vi.useRealTimers())

describe('an inference', () => {
  it('that gets its lease at once is on its way before anybody waits', () => {
    const route = new FakeRoute()
    route.free = true
    const { counted, told } = dispatched(route)
    expect(route.waiting).toEqual([])
    route.calls[0]?.send(doneLine)
    route.calls[0]?.end()
    expect(told).toEqual(['begin', `data ${doneLine}`, 'end'])
    expect(route.released).toEqual([undefined])
    expect(counted).toEqual(['started', 'first', 'ok'])
  })

  it('goes to the runner with what was asked, and comes back as it is', async () => {
    const { counted, granted, route, told } = dispatched(undefined, { conversation: [{ role: 'user', content: 'hi' }] })
    const call = await granted()
    expect(JSON.parse(call.body)).toEqual({
      model: 'm',
      config: { a: 1 },
      parameters: { text: 'hi', conversation: [{ role: 'user', content: 'hi' }], key_info: { Key: 'nokey' } },
    })
    expect(call.requestId).toBe('r-1')
    expect(call.limits).toEqual({ firstChunkMs: 300_000, betweenChunksMs: 120_000 })
    call.send(chunkLine('a'))
    call.send(doneLine)
    expect(route.released).toEqual([])
    call.end()
    expect(told).toEqual(['begin', `data ${chunkLine('a')}`, `data ${doneLine}`, 'end'])
    expect(route.released).toEqual([undefined])
    expect(counted).toEqual(['started', 'first', 'ok'])
  })

  it("has its own conversation and key_info win over a client's", async () => {
    const { granted } = dispatched(undefined, {
      parameters: { key_info: { Key: 'forged' }, conversation: 'mine', other: 1 },
      conversation: [],
    })
    expect(JSON.parse((await granted()).body).parameters).toEqual({
      other: 1,
      conversation: [],
      key_info: { Key: 'nokey' },
    })
  })

  it('keeps a conversation among the parameters where the request has none', async () => {
    const { granted } = dispatched(undefined, { parameters: { conversation: ['mine'] } })
    expect(JSON.parse((await granted()).body).parameters.conversation).toEqual(['mine'])
  })

  it('that has no route fails without anything to give back', () => {
    const told: string[] = []
    const dispatcher = createDispatcher({
      route: () => {
        throw new BerthError('MODEL_NOT_FOUND', 'no')
      },
      watch: () => {
        throw new Error('nothing to watch')
      },
    })
    const inference = dispatcher.dispatch(request, {
      fail: (error: BerthError) => told.push(error.code),
    } as unknown as InferenceSink)
    expect(told).toEqual(['MODEL_NOT_FOUND'])
    expect(() => inference.cancel()).not.toThrow()
  })

  it('that waits is told its places, and how long it took', async () => {
    const { counted, granted, route, sink, told } = dispatched()
    route.waited = { startMs: 1_000_000, loadMs: 5 }
    expect(route.waiting[0]).toMatchObject({ caller: 'key:ci', priority: 'high' })
    route.waiting[0]?.onPosition?.(2)
    route.waiting[0]?.onPosition?.(1)
    const call = await granted()
    call.send(doneLine)
    call.end()
    expect(told.slice(0, 3)).toEqual(['queued 2', 'queued 1', 'begin'])
    expect(sink.timings).toMatchObject({ startMs: 1_000_000, loadMs: 5, queueMs: 0 })
    expect(counted).toEqual(['queued', 'queued', 'started', 'first', 'ok'])
  })

  it('that can not be granted fails with the reason', async () => {
    const { counted, route, told } = dispatched()
    route.waiting[0]?.reject(new BerthError('MODULE_BUSY', 'later'))
    await setImmediate()
    expect(told).toEqual(['fail MODULE_BUSY'])
    expect(route.released).toEqual([])
    expect(counted).toEqual(['MODULE_BUSY'])
  })

  it('pauses and resumes its runner', async () => {
    const { granted, inference, sink } = dispatched()
    const call = await granted()
    expect(call.send(chunkLine('a'))).toBe(true)
    sink.takes = false
    expect(call.send(chunkLine('b'))).toBe(false)
    inference.resume()
    expect(call.resumed).toBe(1)
  })
})

describe('the lease', () => {
  const error = (code: BerthError['code']) => new BerthError(code, 'no')
  it.each([
    ['WORKLOAD_EXITED', 'lost'],
    ['OUT_OF_MEMORY', 'out-of-memory'],
    ['RUNNER_UNREACHABLE', 'lost'],
    ['STREAM_INTERRUPTED', 'lost'],
    ['MODEL_NOT_FOUND', 'lost'],
    ['INFERENCE_TIMEOUT', 'hung'],
    ['INFERENCE_FAILED', undefined],
    ['REQUEST_INVALID', undefined],
  ] as const)('is given back once after %s, as %s', async (code, outcome) => {
    const { counted, granted, inference, route, told } = dispatched()
    const call = await granted()
    call.fail(error(code))
    inference.cancel()
    call.end()
    expect(route.released).toEqual([outcome])
    expect(told).toEqual([`fail ${code}`])
    expect(counted).toEqual(['started', code])
    expect(call.cancelled).toBe(0)
  })

  it('is given back as lost after an error frame that says so', async () => {
    const { counted, granted, route, told } = dispatched()
    const call = await granted()
    call.send('{"error":{"code":"WORKLOAD_EXITED"}}\n')
    call.end({ kind: 'error', code: 'WORKLOAD_EXITED' })
    expect(route.released).toEqual(['lost'])
    expect(told.at(-1)).toBe('end')
    expect(counted.at(-1)).toBe('WORKLOAD_EXITED')
  })

  it('is given back as hung past timeouts.infer, and the call is cancelled', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const timeouts = { ...new FakeRoute().manifest.timeouts, inferMs: 5_000 } as never
    const { granted, route, told } = dispatched(new FakeRoute({ timeouts }))
    const call = await granted()
    call.send(chunkLine('a'))
    vi.advanceTimersByTime(4_999)
    expect(route.released).toEqual([])
    vi.advanceTimersByTime(1)
    expect(route.released).toEqual(['hung'])
    expect(call.cancelled).toBe(1)
    expect(told.at(-1)).toBe('fail INFERENCE_TIMEOUT')
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is not taken for hung where the module tells of a timeout elsewhere', async () => {
    const { granted, route, told } = dispatched()
    const call = await granted()
    call.fail(new BerthError('INFERENCE_TIMEOUT', 'the other model is slow', {}, { origin: 'module' }))
    expect(route.released).toEqual([undefined])
    expect(told).toEqual(['fail INFERENCE_TIMEOUT'])
  })

  it('has no timer where the limit is longer than any timer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { granted, route } = dispatched(new FakeRoute({ timeouts: { inferMs: 90 * 86_400_000 } as never }))
    const call = await granted()
    vi.advanceTimersByTime(86_400_000)
    expect(route.released).toEqual([])
    call.end()
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('a caller that leaves', () => {
  it('while it waits gives up its place', async () => {
    const { counted, inference, route, told } = dispatched()
    inference.cancel()
    await setImmediate()
    expect(route.waiting[0]?.signal.aborted).toBe(true)
    expect(route.waiting[0]?.signal.reason).toMatchObject({ code: 'CLIENT_CLOSED' })
    expect(told).toEqual([])
    expect(counted).toEqual(['cancelled'])
  })

  it('as its lease is granted gives it back', async () => {
    const { inference, route, told } = dispatched()
    route.waiting[0]?.grant()
    inference.cancel()
    await setImmediate()
    expect(route.released).toEqual([undefined])
    expect(route.calls).toEqual([])
    expect(told).toEqual([])
  })

  it('in the stream cancels the inference, once', async () => {
    const { counted, granted, inference, route, told } = dispatched()
    const call = await granted()
    call.send(chunkLine('a'))
    inference.cancel()
    inference.cancel()
    expect(call.cancelled).toBe(1)
    expect(route.released).toEqual([undefined])
    expect(counted).toEqual(['started', 'first', 'cancelled'])
    expect(call.send(chunkLine('late'))).toBe(true)
    expect(told).toEqual(['begin', `data ${chunkLine('a')}`])
  })

  it('with on_disconnect drain lets it run to its end, at full speed, unheard', async () => {
    const { counted, granted, inference, route, sink, told } = dispatched(new FakeRoute({ onDisconnect: 'drain' }))
    const call = await granted()
    sink.takes = false
    call.send(chunkLine('a'))
    inference.cancel()
    expect(call.cancelled).toBe(0)
    expect(call.resumed).toBe(1)
    expect(call.send(chunkLine('b'))).toBe(true)
    expect(route.released).toEqual([])
    call.send(doneLine)
    call.end()
    expect(route.released).toEqual([undefined])
    expect(told).toEqual(['begin', `data ${chunkLine('a')}`])
    expect(counted.at(-1)).toBe('ok')
  })

  it('with on_disconnect drain gives up while it only waits', async () => {
    const { inference, route } = dispatched(new FakeRoute({ onDisconnect: 'drain' }))
    inference.cancel()
    expect(route.waiting[0]?.signal.aborted).toBe(true)
  })
})

describe('a request that its runner never took up', () => {
  it('because another runner has its address is served elsewhere, and that replica is given up', async () => {
    const { route, granted } = dispatched()
    const call = await granted()
    call.fail(new BerthError('RUNNER_PROTOCOL', 'refused', { refused: 'token' }))
    expect(route.released).toEqual(['stranger'])
    expect(route.waiting).toHaveLength(2)
  })

  const refused = () => new BerthError('RUNNER_UNREACHABLE', 'refused', { connected: false })

  it('is served by the next replica that can', async () => {
    const { route, told, granted } = dispatched()
    const call = await granted()
    call.fail(refused())
    expect(route.released).toEqual(['lost'])
    route.waiting[1]?.grant()
    await setImmediate()
    route.calls[1]?.send(doneLine)
    route.calls[1]?.end()
    expect(told).toEqual(['begin', `data ${doneLine}`, 'end'])
    expect(route.released).toEqual(['lost', undefined])
  })

  it('because that shuts down is served by another too', async () => {
    const { route, granted } = dispatched()
    const call = await granted()
    call.fail(new BerthError('SHUTTING_DOWN', 'bye', {}, { origin: 'module' }))
    expect(route.waiting).toHaveLength(2)
  })

  it('by ten replicas is told so', async () => {
    const { route, told, granted } = dispatched()
    await granted()
    for (let attempt = 0; attempt < 10; attempt += 1) {
      route.calls[attempt]?.fail(refused())
      route.waiting[attempt + 1]?.grant()
      await setImmediate()
    }
    expect(told).toEqual(['fail RUNNER_UNREACHABLE'])
    expect(route.calls).toHaveLength(10)
  })

  it('is told where the connection broke later, as the module may have begun', async () => {
    const { told, granted } = dispatched()
    const call = await granted()
    call.fail(new BerthError('RUNNER_UNREACHABLE', 'its connection broke'))
    expect(told).toEqual(['fail RUNNER_UNREACHABLE'])
  })

  it('and whose client has left goes nowhere', async () => {
    const { route, inference, granted } = dispatched()
    const call = await granted()
    call.fail(refused())
    inference.cancel()
    route.waiting[1]?.grant()
    await setImmediate()
    expect(route.calls).toHaveLength(1)
    expect(route.released).toEqual(['lost'])
  })
})
