import type { IncomingMessage } from 'node:http'
import { describe, expect, it, vi } from 'vitest'
import type { OutgoingCall } from '../../../module-runner/protocol.ts'
import { framesOf, inference, patience, start, type TestRunner, textOf } from './support.ts'

const chunk = (text: string) => JSON.stringify({ chunk: { response: { text }, warnings: [], errors: [] } })
const caller = { module: 'caller', calls: ['other'] }

/** The orchestrator's side of the channel. */
async function openChannel(runner: TestRunner) {
  const call = runner.open('GET', '/calls')
  const response: IncomingMessage = await call.response
  const lines: string[] = []
  let text = ''
  response.on('error', () => {})
  response.setEncoding('utf8').on('data', (part: string) => {
    const whole = (text + part).split('\n')
    text = whole.pop() ?? ''
    lines.push(...whole)
  })
  const calls = () => lines.filter((line) => line !== '').map((line): OutgoingCall => JSON.parse(line))
  return {
    lines,
    calls,
    next: (number: number) =>
      vi.waitFor(() => calls()[number - 1] ?? Promise.reject(new Error('no call yet')), patience),
    close: () => call.request.destroy(),
  }
}

describe('calls to other models', () => {
  it('go out on the channel, and their results come back as they are posted', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const answer = runner.infer('m')
    const call = await channel.next(1)
    expect(call).toMatchObject({ kind: 'infer', model: 'other', prompt: 'a prompt', parameters: { a: 1 } })
    const posted = await runner.send('POST', `/calls/${call.id}`, `${chunk('one')}\n${chunk('two')}\n{"done":true}\n`)
    expect([posted.status, posted.json]).toEqual([200, {}])
    const { frames } = await answer
    expect(frames.slice(0, 2).map((frame) => JSON.stringify(frame.chunk.response.extra.got))).toEqual([
      expect.stringContaining('one'),
      expect.stringContaining('two'),
    ])
  })

  it('keep floats and long integers as the module wrote them', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const answer = runner.infer('m')
    const call = await channel.next(1)
    expect(channel.lines.join('')).toContain('"parameters":{"a":1,"b":1.0,"c":1180591620717411303424}')
    await runner.send('POST', `/calls/${call.id}`, '{"done":true}\n')
    await answer
  })

  it('fail alone, when they are no JSON', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const { frames } = await runner.infer('m', { installed: null })
    expect(frames[0].chunk.response.extra.problem).toContain('made a call that is not JSON')
    const answer = runner.infer('m', { installed: 'probe' })
    const call = await channel.next(1)
    await runner.send('POST', `/calls/${call.id}`, '{"done":true,"value":true}\n')
    expect((await answer).frames[0].chunk.response.extra.got).toBe(true)
  })

  it('wait for a channel that comes soon', async () => {
    const runner = await start(caller)
    const answer = runner.infer('m')
    await runner.until(({ inflight }) => inflight === 1)
    const channel = await openChannel(runner)
    const call = await channel.next(1)
    await runner.send('POST', `/calls/${call.id}`, '{"done":true}\n')
    expect((await answer).frames).toEqual([{ done: true }])
  })

  it('fail clearly, when no channel comes', async () => {
    const runner = await start(caller)
    const { frames } = await runner.infer('m')
    expect(frames[0].chunk.response.extra.problem).toContain('the orchestrator takes no calls from it at the moment')
  })

  it('fail clearly, when the channel breaks', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const answer = runner.infer('m')
    const call = await channel.next(1)
    channel.close()
    expect((await answer).frames[0].chunk.response.extra.problem).toContain('went away during a call')
    expect((await runner.send('POST', `/calls/${call.id}`, '{"done":true}\n')).status).toBe(410)
  })

  it('take a new channel instead of an old one', async () => {
    const runner = await start(caller)
    const old = await openChannel(runner)
    const channel = await openChannel(runner)
    const answer = runner.infer('m')
    const call = await channel.next(1)
    expect(old.calls()).toEqual([])
    await runner.send('POST', `/calls/${call.id}`, '{"error":{"code":"MODEL_NOT_FOUND","message":"there is none"}}\n')
    expect((await answer).frames[0].chunk.response.extra.problem).toContain('there is none')
  })

  it('fail, when their result has no end or is nonsense', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    for (const [number, body] of [chunk('one'), `${chunk('one')}\nnonsense\n`].entries()) {
      const answer = runner.infer('m')
      const call = await channel.next(number + 1)
      const posted = await runner.send('POST', `/calls/${call.id}`, body)
      expect([posted.status, posted.json.error.code]).toEqual([400, 'REQUEST_INVALID'])
      expect((await answer).frames[1].chunk.response.extra.problem).toContain('The answer of another model')
    }
  })

  it('that the module gives up are cancelled, and their result is answered 410', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const answer = runner.infer('m', { take: 1 })
    const call = await channel.next(1)
    const posting = runner.open('POST', `/calls/${call.id}`, `${chunk('one')}\n`, true)
    expect((await answer).frames).toHaveLength(2)
    expect((await channel.next(2)).kind).toBe('cancel')
    expect((await posting.response).statusCode).toBe(410)
    expect((await runner.send('POST', `/calls/${call.id}`, '{"done":true}\n')).status).toBe(410)
  })

  it('hold a result back that the module takes slowly, and pass all of it', async () => {
    const runner = await start(caller)
    const channel = await openChannel(runner)
    const response = runner.open('POST', '/infer', inference()).response
    const call = await channel.next(1)
    const many = Array.from({ length: 500 }, (_, number) => chunk(`${number} ${'x'.repeat(1000)}`))
    const posted = runner.send('POST', `/calls/${call.id}`, `${many.join('\n')}\n{"done":true}\n`)
    const frames = framesOf(await textOf(await response))
    expect(frames.filter((frame) => frame.chunk !== undefined).length).toBeGreaterThanOrEqual(500)
    expect((await posted).status).toBe(200)
  })

  it('are refused within the module, where its module.yaml does not grant them', async () => {
    const runner = await start({ module: 'caller' })
    const { frames } = await runner.infer('m')
    expect(frames[0].chunk.response.extra.problem).toContain('PermissionError')
  })
})

describe('the channel', () => {
  it('shows that it is alive', async () => {
    const runner = await start({ module: 'basic' })
    const channel = await openChannel(runner)
    await vi.waitFor(() => expect(channel.lines).toContain(''), patience)
  })
})
