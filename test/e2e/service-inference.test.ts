import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { extraOf, failureOf, textOf } from '../support/answers.ts'
import { engines } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** The table "Service modules" of docs/modules.md: what an inference is given, what becomes of its yields, and who waits. */

const folder = 'test/testdata/modules-e2e'
const config = `
models:
  first: { module: probe, secret: shown, _hidden: 1 }
  one: { module: counts }
  two: { module: counts, max_simul_users: 2 }
  control: { module: counts }
  short: { module: counts, offload_seconds: 0.2 }
  shorter: { module: counts, idle_ttl: 300ms }
`

describe.each(engines)('an inference on the %s engine', (engine) => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine,
      config,
      copy: [`${folder}/probe`, `${folder}/caller`, `${folder}/counts`],
    })
  })
  afterAll(() => berth?.close())

  const probe = (parameters: Record<string, unknown>, body: Record<string, unknown> = {}) =>
    berth.infer('first', { parameters, ...body })
  const said = async (module: string, text: string) =>
    (await berth.logs(module)).some(({ message }) => message.includes(text))

  describe('is given', () => {
    it('what the client sends, with key_info and conversation put in', async () => {
      const extra = await extraOf(berth, 'first', { do: 'arguments', a: [1, null] }, { config: { c: { d: 1 } } })
      expect(extra).toEqual({
        name: 'first',
        config: { c: { d: 1 } },
        parameters: { do: 'arguments', a: [1, null], key_info: { Key: 'nokey', Groups: [] }, conversation: [] },
      })
    })

    it("the request's own conversation rather than a parameter of that name; never a client's key_info", async () => {
      const extra = await extraOf(
        berth,
        'first',
        { do: 'arguments', conversation: ['mine'], key_info: { Key: 'stolen' } },
        { conversation: [{ role: 'user', content: 'hello' }] },
      )
      expect(extra.parameters).toMatchObject({
        conversation: [{ role: 'user', content: [{ type: 'text', text: 'hello' }] }],
        key_info: { Key: 'nokey' },
      })
    })

    it('media as they were sent', async () => {
      const content = [
        { type: 'text', text: 'look' },
        { type: 'image', image: 'aW1hZ2U=' },
        { type: 'file', file: 'ZmlsZQ==', name: 'a.txt' },
      ]
      const extra = await extraOf(berth, 'first', { do: 'arguments' }, { conversation: [{ role: 'user', content }] })
      expect(extra.parameters).toMatchObject({ conversation: [{ content }] })
    })
  })

  describe('yields', () => {
    it('text, files and extra as frames, bytes as base64', async () => {
      expect(await probe({ do: 'files' })).toEqual([
        {
          chunk: {
            response: { text: 'one ', files: [{ type: 'image', image: 'AP9wbmc=' }], extra: { a: 1, b: 1 } },
            warnings: [],
            errors: [],
          },
        },
        {
          chunk: {
            response: { text: 'two', files: [{ type: 'file', file: 'bGFzdA==', name: 'a.txt' }], extra: { b: 2 } },
            warnings: [],
            errors: [],
          },
        },
        { done: true },
      ])
    })

    it('one JSON with `"stream": false`: texts joined, files in order, the later key of extra', async () => {
      const answer = await berth.json('POST', '/api/models/first/infer', {
        parameters: { do: 'files' },
        conversation: [{ role: 'user', content: 'q' }],
        stream: false,
      })
      const files = [
        { type: 'image', image: 'AP9wbmc=' },
        { type: 'file', file: 'bGFzdA==', name: 'a.txt' },
      ]
      expect(answer).toEqual({
        response: { text: 'one two', files, extra: { a: 1, b: 2 } },
        warnings: [],
        errors: [],
        conversation: [
          { role: 'user', content: [{ type: 'text', text: 'q' }] },
          { role: 'assistant', content: [{ type: 'text', text: 'one two' }, ...files] },
        ],
      })
    })

    it('nothing of keys that are unknown or begin with an underscore', async () => {
      expect(await probe({ do: 'dropped' })).toEqual([
        { chunk: { response: { text: 'kept' }, warnings: ['w'], errors: ['e'] } },
        { done: true },
      ])
    })

    it('an empty stream for None, and what an async generator yields', async () => {
      expect(await probe({ do: 'returns_nothing' })).toEqual([{ done: true }])
      expect(textOf(await probe({ do: 'asynchronous' }))).toBe('async')
    })

    it('ten million characters of text', async () => {
      expect(textOf(await probe({ do: 'large', size: 10_000_000 }))).toHaveLength(10_000_000)
      const whole = await berth.json<{ response: { text: string } }>('POST', '/api/models/first/infer', {
        parameters: { do: 'large', size: 10_000_000 },
        stream: false,
      })
      expect(whole.response.text).toHaveLength(10_000_000)
    })

    it('an error frame after the frames that came before it, with the traceback', async () => {
      const frames = await probe({ do: 'raises' })
      expect(textOf(frames)).toBe('before')
      expect(frames.at(-1)?.error).toMatchObject({
        code: 'INFERENCE_FAILED',
        origin: 'module',
        retryable: false,
        message: expect.stringContaining('the reason'),
        details: { traceback: expect.stringContaining('raise ValueError("the reason")') },
      })
    })

    it('events instead of lines to a client that accepts text/event-stream', async () => {
      const answer = await berth.request(
        'POST',
        '/api/models/first/infer',
        { parameters: { do: 'texts', texts: ['a', 'b'] } },
        { headers: { accept: 'text/event-stream' } },
      )
      expect(answer.headers.get('content-type')).toContain('text/event-stream')
      const data = (await answer.text())
        .split('\n')
        .filter((line) => line.startsWith('data:'))
        .map((line) => JSON.parse(line.slice(5)))
      expect(textOf(data)).toBe('ab')
      expect(data.at(-1)).toEqual({ done: true })
    })

    it('the same through rpc/infer', async () => {
      const answer = await berth.request('POST', '/api/modules/probe/rpc/infer', {
        name: 'first',
        userConfig: { from: 'rpc' },
        userParameters: { do: 'arguments' },
      })
      expect(await answer.text()).toContain('"config":{"from":"rpc"}')
    })
  })

  describe('returns the conversation', () => {
    const conversation = [{ role: 'user', content: 'q' }]
    const roles = (frames: Awaited<ReturnType<typeof probe>>) =>
      ((frames.at(-1)?.conversation ?? []) as { role: string; content: { text?: string }[] }[]).map(
        ({ role, content }) => `${role}: ${content.map(({ text }) => text).join()}`,
      )

    it('with the reply in it once', async () => {
      expect(roles(await probe({ do: 'texts', texts: ['a', 'b'] }, { conversation }))).toEqual([
        'user: q',
        'assistant: ab',
      ])
    })

    it('without it when a yield said so, and as the module left it when it appended itself', async () => {
      expect(roles(await probe({ do: 'dropped' }, { conversation }))).toEqual(['user: q'])
      expect(roles(await probe({ do: 'appends_itself' }, { conversation }))).toEqual(['user: q', 'assistant: mine'])
    })
  })

  describe('writes to the log', () => {
    it('what it and its children print, which harms nothing', async () => {
      expect(textOf(await probe({ do: 'noisy' }))).toBe('answer')
      for (const line of ['printed by the module', 'and on standard error', 'past Python', 'printed by a shell']) {
        await waitFor(10_000, `the log has: ${line}`, () => said('probe', line))
      }
      expect(textOf(await probe({ do: 'texts', texts: ['still here'] }))).toBe('still here')
    })

    it('what it says through Utilities.logs, with its level', async () => {
      await probe({ do: 'logs' })
      await waitFor(10_000, 'the log has it', () => said('probe', 'said through the shim'))
      const line = (await berth.logs('probe')).find(({ message }) => message.includes('said through the shim'))
      expect(line).toMatchObject({ level: 'warning', source: 'module', replica: 'probe-0' })
    })
  })

  it('ends at its next yield when the client leaves, and its finally blocks run', async () => {
    const stream = await berth.stream('first', { parameters: { do: 'until_closed', mark: 'here' } })
    expect((await stream.next())?.chunk).toBeDefined()
    await stream.leave()
    await waitFor(10_000, 'the generator was closed', () => said('probe', 'closed here'))
    await waitFor(10_000, 'nothing is in flight', async () => (await berth.module('probe')).replicas[0]?.inflight === 0)
  })

  describe('waits', () => {
    it('in order for a model that serves one at a time, told its place', async () => {
      const hold = (label: string) => berth.stream('one', { parameters: { gate: 'one', label } })
      const first = await hold('first')
      expect((await first.nextOf())?.chunk?.response.extra).toMatchObject({ label: 'first' })
      const second = await hold('second')
      expect(await second.next()).toEqual({ queued: { position: 1 } })
      const third = await hold('third')
      expect(await third.next()).toEqual({ queued: { position: 2 } })
      const fourth = await hold('fourth')
      expect(await fourth.next()).toEqual({ queued: { position: 3 } })
      expect((await berth.models()).find(({ name }) => name === 'one')).toMatchObject({ inflight: 1, queued: 3 })
      await second.leave()
      expect(await third.next()).toEqual({ queued: { position: 1 } })
      expect(await fourth.next()).toEqual({ queued: { position: 2 } })
      await berth.infer('control', { parameters: { opens: 'one' } })
      const [, ...rest] = await Promise.all([first.rest(), third.rest(), fourth.rest()])
      const begun = rest.map((frames) => frames.map((frame) => frame.chunk?.response.extra?.begun).filter(Number)[0])
      expect(begun[0]).toBeLessThan(Number(begun[1]))
      expect(await extraOf(berth, 'control', { opens: '' })).toMatchObject({ most: 1 })
    })

    it('not at all while fewer than max_simul_users run', async () => {
      const hold = () => berth.stream('two', { parameters: { gate: 'two' } })
      const [first, second] = [await hold(), await hold()]
      expect((await first.nextOf())?.chunk).toBeDefined()
      expect((await second.nextOf())?.chunk).toBeDefined()
      const third = await hold()
      expect(await third.next()).toEqual({ queued: { position: 1 } })
      await berth.infer('control', { parameters: { opens: 'two' } })
      await Promise.all([first.rest(), second.rest(), third.rest()])
      expect(await extraOf(berth, 'control', { opens: '' })).toMatchObject({ most: 2 })
    })
  })

  describe('of another model', () => {
    const call = (parameters: Record<string, unknown>) => berth.infer('caller', { parameters })

    it('runs through services_manager, its yields passed on', async () => {
      const frames = await call({
        do: 'passes_on',
        model: 'first',
        prompt: [{ role: 'user', content: 'q' }],
        parameters: { do: 'texts', texts: ['from ', 'the other'] },
      })
      expect(textOf(frames)).toBe('from the other')
      expect(frames.at(-1)).toEqual({ done: true })
    })

    it('is cancelled when the caller closes it', async () => {
      const parameters = { do: 'until_closed', mark: 'by the caller' }
      expect(textOf(await call({ do: 'first_only', model: 'first', parameters }))).toBe('x'.repeat(100))
      await waitFor(10_000, 'the inner generator was closed', () => said('probe', 'closed by the caller'))
    })

    it('is asked about without its private keys', async () => {
      expect(await extraOf(berth, 'caller', { do: 'asks', model: 'first' })).toEqual({
        installed: [true, false],
        configuration: { module: 'probe', secret: 'shown' },
      })
    })

    it('is loaded and offloaded through services_manager', async () => {
      expect(textOf(await call({ do: 'changes', model: 'first' }))).toBe('loaded offloaded')
      expect((await berth.models()).find(({ name }) => name === 'first')?.replicas).toEqual([])
    })

    it('is refused without a grant, with the line that grants it', async () => {
      const frames = await call({ do: 'passes_on', model: 'one', prompt: 'q', parameters: {} })
      expect(frames.at(-1)?.error).toMatchObject({
        code: 'INFERENCE_FAILED',
        message: expect.stringMatching(/may not call model 'one': add it to `calls:`/),
      })
    })

    it('that is granted and not there is an error of the call', async () => {
      const frames = await call({ do: 'passes_on', model: 'not-there', prompt: 'q', parameters: {} })
      expect(frames.at(-1)?.error).toMatchObject({ message: expect.stringContaining('no model not-there') })
    })
  })

  describe('leaves its model loaded', () => {
    it.each(['short', 'shorter'])('until %s has been idle for its time', async (model) => {
      const answer = await berth.request('POST', `/api/models/${model}/load?wait=true`, {})
      expect(await answer.json()).toMatchObject({ id: 'counts', models: expect.arrayContaining([model]) })
      await waitFor(
        10_000,
        'it is offloaded',
        async () => (await berth.models()).find(({ name }) => name === model)?.replicas.length === 0,
      )
      await waitFor(10_000, 'its module was told', () => said('counts', `offloaded ${model}`))
    })

    it('until it is offloaded by hand; names that are not loaded are left out', async () => {
      await berth.request('POST', '/api/models/two/load?wait=true', {})
      const body = { models: ['two', 'never-loaded'] }
      expect(await berth.json('POST', '/api/modules/counts/rpc/offload', body)).toEqual({ offloaded: ['two'] })
      expect(await berth.json('POST', '/api/modules/counts/rpc/offload', body)).toEqual({ offloaded: [] })
    })

    it('until its module stops: then everything is offloaded', async () => {
      await berth.request('POST', '/api/models/first/load?wait=true', {})
      const disabled = await berth.request('POST', '/api/modules/probe/disable?wait=true', {})
      expect(await disabled.json()).toMatchObject({ desired: 'disabled', replicas: [] })
      const last = (await berth.logs('probe')).findLast(({ message }) => message.startsWith('offloaded'))
      expect(last?.message).toContain('first')
      const refused = await failureOf(await berth.request('POST', '/api/models/first/infer', {}))
      expect(refused).toMatchObject({ status: 409, code: 'MODULE_DISABLED' })
      await berth.request('POST', '/api/modules/probe/enable?wait=true', {})
      expect(textOf(await probe({ do: 'texts', texts: ['back'] }))).toBe('back')
    })
  })
})

describe('with keys', () => {
  it('a module is told the name of the key, never the key', async () => {
    const key = 'berth-test-key-0123456789abcdef'
    const berth = await startBerth({
      engine: 'process',
      config,
      copy: [`${folder}/probe`],
      env: { BERTH_ADMIN_KEY: key },
    })
    try {
      const body = { parameters: { do: 'arguments' } }
      expect((await berth.request('POST', '/api/models/first/infer', body)).status).toBe(401)
      const headers = { authorization: `Bearer ${key}` }
      const text = await (await berth.request('POST', '/api/models/first/infer', body, { headers })).text()
      expect(text).toMatch(/"key_info":\{"Key":"[a-z-]+","Groups":\["admin"/)
      expect(text).not.toContain(key)
    } finally {
      await berth.close()
    }
  })
})
