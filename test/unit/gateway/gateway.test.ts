import { setImmediate } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { CallResult, OutgoingCall } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { createCallHandler } from '../../../orchestrator/gateway/gateway.ts'
import { createDispatcher } from '../../../orchestrator/inference/dispatcher.ts'
import type { InferenceRequest } from '../../../orchestrator/inference/types.ts'
import { chunkLine, doneLine, FakeRoute } from '../../support/fake-lease.ts'

/** The channel handler of module `caller`, which may use `granted`, over models that note what they are asked. */
function createGateway(granted: readonly string[] = ['other', 'third']) {
  const route = new FakeRoute()
  const asked: InferenceRequest[] = []
  const worked: string[] = []
  const dispatcher = createDispatcher({
    route(request) {
      asked.push(request as InferenceRequest)
      return route
    },
    watch: () => ({ queued() {}, started() {}, firstChunk() {}, ended() {} }),
  })
  const handler = createCallHandler(
    {
      dispatcher,
      models: {
        find(name) {
          if (name === 'third') throw new BerthError('MODEL_NOT_FOUND', 'There is no model third.')
          return { model: name, configuration: { size: 1, _secret: 'x', nested: { _kept: 1 } } }
        },
        load: async (name) => void worked.push(`load ${name}`),
        offload: async (name) => void worked.push(`offload ${name}`),
        installed: (id) => id === 'there',
      },
    },
    'caller',
    granted,
  )
  const granting = async () => {
    route.waiting[0]?.grant()
    await setImmediate()
    const call = route.calls[0]
    if (!call) throw new Error('The runner was not asked')
    return call
  }
  return { handler, route, asked, worked, granting }
}

async function resultsOf(results: AsyncIterable<CallResult>): Promise<CallResult[]> {
  const all: CallResult[] = []
  for await (const result of results) all.push(result)
  return all
}

const never = () => new AbortController().signal
const infer: OutgoingCall = { id: '7', kind: 'infer', model: 'other', prompt: 'hi', parameters: { k: 1 } }

describe('a call of a module', () => {
  it('to a model that its manifest does not name is FORBIDDEN, with what to write where', async () => {
    const { asked, handler, worked } = createGateway(['other'])
    const calls: OutgoingCall[] = [
      { ...infer, model: 'secret' },
      { id: '1', kind: 'load', names: ['other', 'secret'] },
      { id: '2', kind: 'offload', names: ['secret'] },
      { id: '3', kind: 'configuration', model: 'secret' },
    ]
    for (const call of calls) {
      expect(await resultsOf(handler(call, never())), call.kind).toEqual([
        {
          error: {
            code: 'FORBIDDEN',
            message: expect.stringContaining('calls: [other, secret] in its module.yaml'),
            retryable: false,
            origin: 'orchestrator',
            details: { module: 'caller', model: 'secret', file: 'module.yaml', field: 'calls' },
          },
        },
      ])
    }
    expect([asked, worked]).toEqual([[], []])
  })

  it('that names no model is REQUEST_INVALID', async () => {
    const { handler } = createGateway()
    const results = await resultsOf(handler({ id: '1', kind: 'infer' }, never()))
    expect(results).toMatchObject([{ error: { code: 'REQUEST_INVALID' } }])
  })

  it('to load and offload does so, one after the other', async () => {
    const { handler, worked } = createGateway()
    expect(await resultsOf(handler({ id: '1', kind: 'load', names: ['other', 'third'] }, never()))).toEqual([
      { done: true, value: null },
    ])
    expect(await resultsOf(handler({ id: '2', kind: 'offload', names: ['other'] }, never()))).toEqual([
      { done: true, value: null },
    ])
    expect(worked).toEqual(['load other', 'load third', 'offload other'])
  })

  it('gets configurations without their private keys', async () => {
    const { handler } = createGateway()
    expect(await resultsOf(handler({ id: '1', kind: 'configuration', model: 'other' }, never()))).toEqual([
      { done: true, value: { size: 1, nested: { _kept: 1 } } },
    ])
    expect(await resultsOf(handler({ id: '2', kind: 'configuration', model: 'third' }, never()))).toMatchObject([
      { error: { code: 'MODEL_NOT_FOUND' } },
    ])
  })

  it('never shows it the traceback of another module', async () => {
    const details = { module: 'other', traceback: 'secret', lines: ['secret'] }
    for (const fail of ['error', 'frame'] as const) {
      const { granting, handler } = createGateway()
      const results = resultsOf(handler(infer, never()))
      const call = await granting()
      if (fail === 'error') call.fail(new BerthError('LOAD_FAILED', 'no', details, { origin: 'module' }))
      else {
        call.send(
          `${JSON.stringify({ error: { code: 'LOAD_FAILED', message: 'no', retryable: false, origin: 'module', details } })}\n`,
        )
        call.end({ kind: 'error', code: 'LOAD_FAILED' })
      }
      expect(await results, fail).toMatchObject([{ error: { code: 'LOAD_FAILED', details: { module: 'other' } } }])
      expect(JSON.stringify(await results)).not.toContain('secret')
    }
  })

  it('may ask without a grant whether a module is there', async () => {
    const { handler } = createGateway([])
    const ask = (name: string) => resultsOf(handler({ id: '1', kind: 'installed', names: [name] }, never()))
    expect(await ask('there')).toEqual([{ done: true, value: true }])
    expect(await ask('elsewhere')).toEqual([{ done: true, value: false }])
  })
})

describe('an inference from module to module', () => {
  it('is one like any other, under the name of the module that asks', async () => {
    const { asked, granting, handler } = createGateway()
    const results = resultsOf(handler(infer, never()))
    await setImmediate()
    const call = await granting()
    expect(asked).toEqual([
      {
        model: 'other',
        config: {},
        parameters: { k: 1 },
        conversation: [{ role: 'user', content: 'hi' }],
        keyInfo: { Key: 'module:caller', Groups: [] },
        requestId: 'caller-7',
        caller: 'module:caller',
        priority: 'normal',
      },
    ])
    call.send(chunkLine('größe'))
    call.send(doneLine)
    call.end()
    expect(await results).toEqual([JSON.parse(chunkLine('größe')), { done: true }])
  })

  it.each([
    [undefined, []],
    [null, []],
    ['hi', [{ role: 'user', content: 'hi' }]],
    [[{ role: 'system', content: 'x' }], [{ role: 'system', content: 'x' }]],
    [{ conversation: [{ role: 'user', content: 'y' }] }, [{ role: 'user', content: 'y' }]],
    [{ text: 'z' }, [{ role: 'user', content: { text: 'z' } }]],
  ])('takes %j as its prompt', async (prompt, conversation) => {
    const { asked, handler } = createGateway()
    const results = handler({ ...infer, prompt }, never())[Symbol.asyncIterator]()
    void results.next()
    await setImmediate()
    expect(asked[0]?.conversation).toEqual(conversation)
  })

  it('that fails ends with its error', async () => {
    const { granting, handler, route } = createGateway()
    const results = resultsOf(handler(infer, never()))
    await setImmediate()
    const call = await granting()
    call.send(chunkLine('a'))
    call.fail(new BerthError('STREAM_INTERRUPTED', 'broke off'))
    expect(await results).toMatchObject([JSON.parse(chunkLine('a')), { error: { code: 'STREAM_INTERRUPTED' } }])
    expect(route.released).toEqual(['lost'])
  })

  it('that its caller gives up is cancelled', async () => {
    const { granting, handler, route } = createGateway()
    const abort = new AbortController()
    const results = resultsOf(handler(infer, abort.signal))
    await setImmediate()
    const call = await granting()
    call.send(chunkLine('a'))
    abort.abort()
    await results
    expect(call.cancelled).toBe(1)
    expect(route.released).toEqual([undefined])
  })
})
