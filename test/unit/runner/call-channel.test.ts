import type { ServerResponse } from 'node:http'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import type { CallResult, OutgoingCall } from '../../../module-runner/protocol.ts'
import type { CallHandler } from '../../../orchestrator/runner/client.ts'
import { eventually } from '../../support/eventually.ts'
import { bodyOf, ndjson, scriptedRunner } from './scripted-runner.ts'

/** A runner with one module that calls: its channels, and what came back for each call. */
async function callingRunner(handler: CallHandler, status = 200) {
  const channels: ServerResponse[] = []
  const results = new Map<string, { readonly body: Promise<string>; readonly authorization: string | undefined }>()
  const gone = new Set<string>()
  const runner = await scriptedRunner(async (request, response) => {
    if (request.url === '/calls') {
      channels.push(response)
      response.writeHead(status, ndjson)
      if (status === 200) response.flushHeaders()
      else response.end('{"error":{"code":"ENGINE_UNSUPPORTED","message":"no calls"}}')
      return
    }
    const id = decodeURIComponent(request.url?.replace('/calls/', '') ?? '')
    if (gone.has(id)) {
      response.writeHead(410).end('{}')
      return
    }
    const body = bodyOf(request)
    results.set(id, { body, authorization: request.headers.authorization })
    await body.catch(() => '')
    response.end('{}')
  })
  const stop = new AbortController()
  onTestFinished(() => stop.abort())
  runner.client.calls(handler, stop.signal)
  const channel = async (number = 0) => {
    await eventually(() => expect(channels.length).toBeGreaterThan(number))
    return channels[number] as ServerResponse
  }
  const send = async (call: OutgoingCall, number = 0) => (await channel(number)).write(`${JSON.stringify(call)}\n`)
  const result = async (id: string) => {
    await eventually(() => expect(results.has(id)).toBe(true))
    return (await results.get(id)?.body) ?? ''
  }
  return { ...runner, channels, channel, gone, result, results, send, stop }
}

const infer = (id: string): OutgoingCall => ({ id, kind: 'infer', model: 'other' })
const chunk = (text: string): CallResult => ({ chunk: { response: { text }, warnings: [], errors: [] } })

describe('the channel for calls of a module', () => {
  it('carries a call out and posts back what comes, as it comes', async () => {
    const seen: OutgoingCall[] = []
    const { send, result, results } = await callingRunner(async function* (call) {
      seen.push(call)
      yield chunk('a')
      yield chunk('b')
      yield { done: true }
    })
    await send({ id: 'call/1', kind: 'infer', model: 'other', prompt: ['x'], parameters: { k: 1 } })
    expect(await result('call/1')).toBe(`${JSON.stringify(chunk('a'))}\n${JSON.stringify(chunk('b'))}\n{"done":true}\n`)
    expect(seen).toEqual([{ id: 'call/1', kind: 'infer', model: 'other', prompt: ['x'], parameters: { k: 1 } }])
    expect(results.get('call/1')?.authorization).toBe('Bearer secret')
  })

  it('carries numbers as the module wrote them', async () => {
    const { channel, result } = await callingRunner(async function* (call) {
      yield { done: true, value: call.parameters }
    })
    const numbers = '{"f":1.0,"n":1180591620717411303424,"i":1}'
    ;(await channel()).write(`{"id":"1","kind":"infer","model":"other","prompt":[1.0],"parameters":${numbers}}\n`)
    expect(await result('1')).toBe(`{"done":true,"value":${numbers}}\n`)
  })

  it('carries several side by side, past empty lines and lines that are no call', async () => {
    const held = Promise.withResolvers<void>()
    const { channel, send, result } = await callingRunner(async function* (call) {
      if (call.id === 'slow') await held.promise
      yield { done: true, value: call.id }
    })
    await send(infer('slow'))
    ;(await channel()).write('\n\n{"no":"call"}\n')
    await send(infer('fast'))
    expect(await result('fast')).toBe('{"done":true,"value":"fast"}\n')
    held.resolve()
    expect(await result('slow')).toBe('{"done":true,"value":"slow"}\n')
  })

  it('ends the work on a result that is refused', async () => {
    const aborted = Promise.withResolvers<void>()
    const { gone, send } = await callingRunner(async function* (_call, signal) {
      signal.addEventListener('abort', () => aborted.resolve())
      yield chunk('a')
      await aborted.promise
      yield { done: true }
    })
    gone.add('one')
    await send(infer('one'))
    await aborted.promise
  })

  it('cancels a call that its caller gives up', async () => {
    const aborted = Promise.withResolvers<void>()
    const { results, send } = await callingRunner(async function* (_call, signal) {
      yield chunk('a')
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      aborted.resolve()
      yield { done: true }
    })
    await send(infer('one'))
    await eventually(() => expect(results.has('one')).toBe(true))
    await send({ id: 'one', kind: 'cancel' })
    await aborted.promise
  })

  it('ends a call whose results nobody takes any more', async () => {
    const ended = Promise.withResolvers<void>()
    const { gone, send } = await callingRunner(async function* () {
      try {
        for (;;) {
          yield chunk('x'.repeat(10_000))
        }
      } finally {
        ended.resolve()
      }
    })
    gone.add('one')
    await send(infer('one'))
    await ended.promise
  })

  it('is opened again when it breaks, and what was under way is cancelled', async () => {
    const aborted = Promise.withResolvers<void>()
    const { channel, send, result } = await callingRunner(async function* (call, signal) {
      if (call.id === 'lost') {
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
        aborted.resolve()
      }
      yield { done: true, value: call.id }
    })
    await send(infer('lost'))
    const first = await channel()
    await eventually(() => expect(first.writableLength).toBe(0))
    first.write('\n')
    await new Promise((resolve) => setImmediate(resolve))
    first.destroy()
    await aborted.promise
    await send(infer('next'), 1)
    expect(await result('next')).toBe('{"done":true,"value":"next"}\n')
  })

  it('is opened again after a line that can not be read', async () => {
    const { channel, send, result } = await callingRunner(async function* (call) {
      yield { done: true, value: call.id }
    })
    ;(await channel()).write('{{{\n')
    await send(infer('next'), 1)
    expect(await result('next')).toBe('{"done":true,"value":"next"}\n')
  })

  it('is asked for again by and by where a runner has none', async () => {
    const handler = vi.fn()
    const { channel } = await callingRunner(handler, 501)
    await channel(1)
    expect(handler).not.toHaveBeenCalled()
  })

  it('ends with its signal', async () => {
    const aborted = Promise.withResolvers<void>()
    const { channel, channels, send, sockets, stop } = await callingRunner(async function* (_call, signal) {
      yield chunk('a')
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      aborted.resolve()
    })
    await channel()
    await send(infer('one'))
    await eventually(() => expect(sockets.size).toBe(2))
    stop.abort()
    await aborted.promise
    await eventually(() => expect(sockets.size).toBe(0))
    expect(channels.length).toBe(1)
  })
})
