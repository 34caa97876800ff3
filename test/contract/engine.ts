import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type {
  Endpoint,
  Engine,
  LogLine,
  ObservedWorkload,
  PrepareProgress,
  Workload,
  WorkloadEvent,
} from '../../orchestrator/engines/engine.ts'
import type { WorkloadSpec } from '../../orchestrator/engines/workload-spec.ts'
import { callEndpoint, openEndpoint } from '../support/endpoint-client.ts'
import type { SpecOverrides } from '../support/engine-spec.ts'

/** What an adapter's test gives to the contract: real things, and the few powers that the port does not have. */
export interface EngineHarness {
  /** Connected; replaced by `restartEngine`. */
  readonly engine: Engine
  spec(overrides?: SpecOverrides): WorkloadSpec
  /** Closes the engine object and connects a new one on the same state, as a restart of the orchestrator does. */
  restartEngine(): Promise<void>
  /** A connected engine of another instance on the same machine; the harness closes it. */
  otherInstance(): Promise<Pick<EngineHarness, 'engine' | 'spec'>>
  /** Signals the workload's first process from outside, past the engine. */
  kill(id: string, signal: 'SIGTERM' | 'SIGKILL'): Promise<void>
  /**
   * Somebody else's container that speaks the runner protocol, with these labels beside the protocol's; answers its id.
   * Absent where the engine has no such thing.
   */
  runForeign?(wanted: { readonly labels: Readonly<Record<string, string>>; readonly token: string }): Promise<string>
  /** Ends it, or removes it. */
  endForeign?(id: string, how: 'ended' | 'removed'): Promise<void>
  /** Removes everything that the harness made. */
  dispose(): Promise<void>
}

/** The limit of every wait: generous, since it only decides how long a failure takes. */
const patience = { timeout: 60_000, interval: 50 }
const forever = (): AbortSignal => AbortSignal.timeout(300_000)
const ignore = (): void => undefined

/** The contract of the engine port (orchestrator/engines/engine.ts): every adapter's test runs it. */
export function engineContract(name: string, makeHarness: () => Promise<EngineHarness>): void {
  describe(`${name} engine`, () => {
    let harness: EngineHarness

    beforeAll(async () => {
      harness = await makeHarness()
    })
    afterAll(async () => {
      await harness?.dispose()
    })
    afterEach(async () => {
      for (const workload of await harness.engine.list()) await harness.engine.stop(workload.id, { graceMs: 0 })
    })

    const prepare = (spec: WorkloadSpec, signal = forever(), onProgress: (p: PrepareProgress) => void = ignore) =>
      harness.engine.prepare(spec, signal, onProgress)

    async function run(overrides: SpecOverrides = {}): Promise<{ spec: WorkloadSpec; workload: Workload }> {
      const spec = harness.spec(overrides)
      await prepare(spec)
      return { spec, workload: await harness.engine.start(spec, forever()) }
    }

    async function runUntilIdle(overrides: SpecOverrides = {}): Promise<{ spec: WorkloadSpec; workload: Workload }> {
      const started = await run(overrides)
      await untilState(started.workload.endpoint, 'idle')
      return started
    }

    async function observed(id: string): Promise<ObservedWorkload | undefined> {
      return (await harness.engine.list()).find((workload) => workload.id === id)
    }

    const environmentKeys = async (): Promise<readonly string[]> =>
      (await harness.engine.environments.list()).map((environment) => environment.key)

    describe('prepare', () => {
      it('makes an environment, and is done at once when it is there', async () => {
        const spec = harness.spec({ module: 'installed' })
        const lines = collectLines()
        const first = await prepare(spec, forever(), lines.onProgress)
        expect(first.cached).toBe(false)
        expect(first.environment?.key).toMatch(/^[0-9a-f]{16,}$/)
        expect(lines.installs().size).toBe(1)

        const again = collectLines()
        const second = await prepare(spec, forever(), again.onProgress)
        expect(second).toMatchObject({ cached: true, environment: { key: first.environment?.key } })
        expect(again.installs().size).toBe(0)
        expect(await environmentKeys()).toContain(first.environment?.key)
      })

      it('needs no environment where there are no requirements', async () => {
        const prepared = await prepare(harness.spec())
        expect(prepared.environment).toBeUndefined()
      })

      it('installs once for callers at the same time', async () => {
        const spec = harness.spec({ module: 'installed' })
        const lines = collectLines()
        const others = ['installed-1', 'installed-2'].map((replica) => ({ ...spec, replica }))
        const prepared = await Promise.all([spec, ...others].map((each) => prepare(each, forever(), lines.onProgress)))
        expect(new Set(prepared.map((each) => each.environment?.key)).size).toBe(1)
        expect(lines.installs().size).toBe(1)
      })

      it('goes on for the others when one caller leaves', async () => {
        const spec = harness.spec({ module: 'installed' })
        const leaving = new AbortController()
        const lines = collectLines()
        const left = prepare(spec, leaving.signal, ignore)
        const stayed = prepare(spec, forever(), lines.onProgress)
        leaving.abort(new Error('this caller leaves'))
        await expect(left).rejects.toThrow()
        expect((await stayed).environment).toBeDefined()
      })

      it('ends an install that nobody waits for any more, and leaves no environment', async () => {
        const spec = harness.spec({ module: 'slow-install' })
        for (const _attempt of ['first', 'again']) {
          const controller = new AbortController()
          const installing = prepare(spec, controller.signal, ({ line }) => {
            if (line?.includes('probe install waits')) controller.abort(new Error('no longer wanted'))
          })
          await expect(installing).rejects.toThrow()
          expect(controller.signal.aborted).toBe(true)
        }
        const before = await environmentKeys()
        const other = await prepare(harness.spec({ module: 'installed' }))
        const made = (await environmentKeys()).filter((key) => !before.includes(key))
        expect(made).toEqual([other.environment?.key])
      })

      it('rejects at once when its signal has aborted already', async () => {
        const spec = harness.spec({ module: 'installed' })
        await expect(prepare(spec, AbortSignal.abort(new Error('too late')))).rejects.toThrow()
      })

      it('says REQUIREMENTS_FAILED with the last lines of the installer, as often as it is tried', async () => {
        const spec = harness.spec({ module: 'uninstallable' })
        const before = await environmentKeys()
        for (const _attempt of ['first', 'again']) {
          await expect(prepare(spec)).rejects.toMatchObject({
            code: 'REQUIREMENTS_FAILED',
            message: expect.stringContaining('uninstallable'),
            details: {
              module: 'uninstallable',
              lines: expect.arrayContaining([expect.stringContaining('berth_absent')]),
            },
          })
        }
        expect(await environmentKeys()).toEqual(before)
      })

      it('prunes environments that nothing uses, and keeps the others', async () => {
        const wanted = await prepare(harness.spec({ module: 'installed' }))
        const unwanted = await prepare(harness.spec({ module: 'installed' }))
        const used = harness.spec({ module: 'installed' })
        const inUse = await prepare(used)
        await harness.engine.start(used, forever())
        const removed = await harness.engine.environments.prune(new Set([wanted.environment?.key ?? '']))
        const removedKeys = removed.map((environment) => environment.key)
        expect(removedKeys).toContain(unwanted.environment?.key)
        expect(removedKeys).not.toContain(wanted.environment?.key)
        expect(removedKeys).not.toContain(inUse.environment?.key)
        const left = await environmentKeys()
        expect(left).toContain(wanted.environment?.key)
        expect(left).toContain(inUse.environment?.key)
        expect(left).not.toContain(unwanted.environment?.key)
      })
    })

    describe('start', () => {
      it('gives an endpoint at which the runner answers', async () => {
        const { spec, workload } = await run()
        expect(await untilState(workload.endpoint, 'idle')).toMatchObject({ protocol: 1, models: [], inflight: 0 })
        expect(await observed(workload.id)).toMatchObject({
          module: spec.module,
          replica: spec.replica,
          generation: spec.generation,
          specHash: spec.specHash,
          state: 'running',
          endpoint: workload.endpoint,
        })
      })

      it('makes the runner ask for the token', async () => {
        const { spec, workload } = await runUntilIdle()
        const load = { path: '/load', body: { models: { probe: {} } } }
        expect(await callEndpoint(workload.endpoint, load)).toMatchObject({ status: 401 })
        expect(await callEndpoint(workload.endpoint, { ...load, token: 'another' })).toMatchObject({ status: 401 })
        expect(await callEndpoint(workload.endpoint, { ...load, token: spec.token })).toMatchObject({ status: 200 })
      })

      it('runs the module in its environment', async () => {
        const lines = collectLines()
        const spec = harness.spec({ module: 'installed' })
        await prepare(spec, forever(), lines.onProgress)
        const { endpoint } = await harness.engine.start(spec, forever())
        await untilState(endpoint, 'idle')
        expect([await inferText(endpoint, spec, {})]).toEqual([...lines.installs()])
      })

      it("passes the spec's variables on", async () => {
        const { spec, workload } = await runUntilIdle({ env: { PROBE_COLOUR: 'green' } })
        const frames = await infer(workload.endpoint, spec, { do: 'environment', names: ['PROBE_COLOUR'] })
        expect(frames).toContainEqual(
          expect.objectContaining({
            chunk: expect.objectContaining({ response: { extra: { environment: { PROBE_COLOUR: 'green' } } } }),
          }),
        )
      })

      it('answers the workload that runs already', async () => {
        const { spec, workload } = await run()
        expect((await harness.engine.start(spec, forever())).id).toBe(workload.id)
        expect(await harness.engine.list()).toHaveLength(1)
      })

      it('starts once for callers at the same time', async () => {
        const spec = harness.spec()
        await prepare(spec)
        const [one, other] = await Promise.all([
          harness.engine.start(spec, forever()),
          harness.engine.start(spec, forever()),
        ])
        expect(one?.id).toBe(other?.id)
        expect(await harness.engine.list()).toHaveLength(1)
      })

      it('replaces another generation of the same replica', async () => {
        const { workload } = await run({ generation: 1 })
        const second = await run({ generation: 2 })
        expect(second.workload.id).not.toBe(workload.id)
        expect(await harness.engine.list()).toMatchObject([{ id: second.workload.id, generation: 2, state: 'running' }])
        await untilState(second.workload.endpoint, 'idle')
      })

      it('keeps replicas apart', async () => {
        const one = await run({ replica: 'probe-0' })
        const other = await run({ replica: 'probe-1' })
        await untilState(one.workload.endpoint, 'idle')
        await untilState(other.workload.endpoint, 'idle')
        await harness.engine.stop(one.workload.id, { graceMs: 5_000 })
        expect(await harness.engine.list()).toMatchObject([{ id: other.workload.id, state: 'running' }])
        expect(await untilState(other.workload.endpoint, 'idle')).toMatchObject({ state: 'idle' })
      })

      it('leaves nothing when it fails', async () => {
        const spec = harness.spec({ folder: '/nonexistent/berth-contract' })
        await expect(prepare(spec).then(() => harness.engine.start(spec, forever()))).rejects.toThrow()
        expect(await harness.engine.list()).toEqual([])
      })

      it('leaves nothing when its signal aborts', async () => {
        const spec = harness.spec()
        await prepare(spec)
        await expect(harness.engine.start(spec, AbortSignal.abort(new Error('too late')))).rejects.toThrow()
        const controller = new AbortController()
        const starting = harness.engine.start(spec, controller.signal)
        controller.abort(new Error('no longer wanted'))
        const outcome = await starting.then(
          (workload) => [workload.id],
          () => [],
        )
        // A start that was quicker than the abort has succeeded; both are right, something between them is not.
        expect((await harness.engine.list()).map((workload) => workload.id)).toEqual(outcome)
      })

      it('refuses a base that this engine can not run', async () => {
        if (harness.engine.capabilities.images) return
        for (const kind of ['protocol', 'image'] as const) {
          const spec = harness.spec({ base: { kind, image: 'example/module:1' } })
          await expect(prepare(spec)).rejects.toMatchObject({ code: 'ENGINE_UNSUPPORTED' })
          await expect(harness.engine.start(spec, forever())).rejects.toMatchObject({ code: 'ENGINE_UNSUPPORTED' })
        }
      })
    })

    describe('stop', () => {
      it('resolves when the workload is gone', async () => {
        const { workload } = await runUntilIdle()
        await harness.engine.stop(workload.id, { graceMs: 10_000 })
        expect(await harness.engine.list()).toEqual([])
        await expect(health(workload.endpoint)).rejects.toThrow()
      })

      it('resolves for a workload that is not there, and for one stopped twice', async () => {
        await harness.engine.stop('no-such-workload', { graceMs: 1_000 })
        const { workload } = await run()
        await Promise.all([
          harness.engine.stop(workload.id, { graceMs: 5_000 }),
          harness.engine.stop(workload.id, { graceMs: 5_000 }),
        ])
        await harness.engine.stop(workload.id, { graceMs: 5_000 })
        expect(await harness.engine.list()).toEqual([])
      })

      it('kills a workload that does not leave within its grace', async () => {
        const spec = harness.spec()
        const { workload } = await runUntilIdle({ runner: { ...spec.runner, drainMs: 3_600_000 } })
        const stream = await beginInfer(workload.endpoint, spec, { do: 'endless' })
        await harness.engine.stop(workload.id, { graceMs: 300 })
        expect(await harness.engine.list()).toEqual([])
        await expect(health(workload.endpoint)).rejects.toThrow()
        stream.destroy()
      })
    })

    describe('an exit', () => {
      it.each(['SIGTERM', 'SIGKILL'] as const)(
        'by %s is announced, and seen until the workload is stopped',
        async (signal) => {
          const { workload } = await runUntilIdle()
          const watching = new AbortController()
          const events = watch(harness.engine, watching.signal)
          await vi.waitFor(() => expect(events.seen).toContainEqual({ kind: 'resync' }), patience)
          events.seen.length = 0
          await harness.kill(workload.id, signal)
          await vi.waitFor(async () => expect(await observed(workload.id)).toMatchObject({ state: 'exited' }), patience)
          await vi.waitFor(() => expect(events.seen.length).toBeGreaterThan(0), patience)
          watching.abort()
          await events.ended

          const ended = await observed(workload.id)
          expect(ended?.endpoint).toBeUndefined()
          if (signal === 'SIGTERM') expect(ended?.exit).toMatchObject({ code: 0 })
          else
            expect([ended?.exit?.signal, ended?.exit?.code]).toSatisfy(
              ([name, code]) => name === 'SIGKILL' || code === 137,
            )

          await harness.engine.stop(workload.id, { graceMs: 1_000 })
          expect(await observed(workload.id)).toBeUndefined()
        },
      )

      it('makes room for the next generation', async () => {
        const { workload } = await runUntilIdle({ generation: 1 })
        await harness.kill(workload.id, 'SIGKILL')
        await vi.waitFor(async () => expect(await observed(workload.id)).toMatchObject({ state: 'exited' }), patience)
        const next = await runUntilIdle({ generation: 2 })
        expect(await harness.engine.list()).toMatchObject([{ id: next.workload.id, state: 'running' }])
      })
    })

    describe('logs', () => {
      async function loaded(): Promise<{ spec: WorkloadSpec; workload: Workload }> {
        const started = await runUntilIdle()
        await load(started.workload.endpoint, started.spec)
        return started
      }
      const collect = async (id: string, options: { tail?: number; after?: string } = {}): Promise<LogLine[]> => {
        const lines: LogLine[] = []
        for await (const line of harness.engine.logs(id, { ...options, signal: forever() })) lines.push(line)
        return lines
      }

      it('hold what the module prints, oldest first', async () => {
        const { workload } = await loaded()
        await vi.waitFor(async () => {
          const steps = (await collect(workload.id)).flatMap(({ text }) => /probe step \d/.exec(text)?.[0] ?? [])
          expect(steps).toEqual([1, 2, 3, 4, 5].map((step) => `probe step ${step}`))
        }, patience)
      })

      it('give the newest lines when asked for a tail', async () => {
        const { workload } = await loaded()
        await vi.waitFor(async () => expect(await texts(workload.id)).toContain('probe step 5'), patience)
        const all = await collect(workload.id)
        expect((await collect(workload.id, { tail: 2 })).map((line) => line.text)).toEqual(
          all.slice(-2).map((line) => line.text),
        )
        expect(await collect(workload.id, { tail: 0 })).toEqual([])
      })

      it('go on after any line, with the very next', async () => {
        const { workload } = await loaded()
        await vi.waitFor(async () => expect(await texts(workload.id)).toContain('probe step 5'), patience)
        const all = await collect(workload.id)
        for (const [index, { position }] of all.entries()) {
          if (position === undefined) throw new Error('a line has no position')
          const rest = await collect(workload.id, { after: position })
          expect(rest.slice(0, all.length - index - 1)).toEqual(all.slice(index + 1))
        }
      })

      it('follow until the workload ends', async () => {
        const { workload, spec } = await runUntilIdle()
        const seen: string[] = []
        const following = (async () => {
          for await (const line of harness.engine.logs(workload.id, { follow: true, signal: forever() })) {
            seen.push(line.text)
          }
        })()
        await load(workload.endpoint, spec)
        await vi.waitFor(() => expect(seen.join('\n')).toContain('probe step 5'), patience)
        await harness.engine.stop(workload.id, { graceMs: 10_000 })
        await following
      })

      it('stop following when the signal aborts', async () => {
        const { workload } = await run()
        const controller = new AbortController()
        const following = (async () => {
          for await (const _line of harness.engine.logs(workload.id, { follow: true, signal: controller.signal }));
        })()
        controller.abort()
        await following
      })

      it('of a workload that is not there are empty', async () => {
        expect(await collect('no-such-workload')).toEqual([])
      })

      async function texts(id: string): Promise<string> {
        return (await collect(id)).map((line) => line.text).join('\n')
      }
    })

    describe('list and watch', () => {
      it('show this instance only', async () => {
        const other = await harness.otherInstance()
        const { workload } = await run()
        const theirs = other.spec()
        await other.engine.prepare(theirs, forever(), ignore)
        const started = await other.engine.start(theirs, forever())
        expect((await harness.engine.list()).map((each) => each.id)).toEqual([workload.id])
        expect((await other.engine.list()).map((each) => each.id)).toEqual([started.id])
        await harness.engine.stop(started.id, { graceMs: 0 })
        expect((await other.engine.list()).map((each) => each.state)).toEqual(['running'])
        await other.engine.stop(started.id, { graceMs: 0 })
        expect((await harness.engine.list()).map((each) => each.id)).toEqual([workload.id])
      })

      it('begin with a resync and end when the signal aborts', async () => {
        const controller = new AbortController()
        const events = watch(harness.engine, controller.signal)
        await vi.waitFor(() => expect(events.seen[0]).toEqual({ kind: 'resync' }), patience)
        controller.abort()
        await events.ended
      })
    })

    describe('a container that somebody else runs', () => {
      const manifest = '{"id":"theirs","models":["theirs"]}'

      it('is found where the engine has such a thing, and only there', () => {
        expect(harness.engine.discover === undefined).toBe(harness.runForeign === undefined)
      })

      it('is seen as long as it is there, with its labels, its address and its token', async () => {
        const { runForeign, endForeign, engine } = harness
        if (runForeign === undefined || endForeign === undefined) return
        const find = async (id: string) => (await engine.discover?.())?.find((each) => each.id === id)
        const watching = new AbortController()
        const events = watch(engine, watching.signal)
        await vi.waitFor(() => expect(events.seen).toContainEqual({ kind: 'resync' }), patience)

        const labels = { 'dev.berth.module': manifest, 'dev.berth.for': harness.spec().instance }
        const id = await runForeign({ labels, token: 'their token' })
        await vi.waitFor(() => expect(events.seen).toContainEqual({ kind: 'changed', id }), patience)
        const found = await find(id)
        expect(found).toMatchObject({
          labels: { 'dev.berth.protocol': '1', 'dev.berth.module': manifest },
          state: 'running',
          token: 'their token',
          container: expect.stringMatching(/./),
          createdMs: expect.toSatisfy((at: number) => Math.abs(at - Date.now()) < 600_000),
        })
        if (found?.endpoint === undefined) throw new Error('a foreign container that runs has no endpoint')
        const { endpoint } = found
        await vi.waitFor(async () => expect(await health(endpoint)).toMatchObject({ protocol: 1 }), patience)

        // It is nobody's workload, and no call of the port touches it.
        expect(await observed(id)).toBeUndefined()
        await engine.stop(id, { graceMs: 0 })
        expect(await find(id)).toMatchObject({ state: 'running' })

        events.seen.length = 0
        await endForeign(id, 'ended')
        await vi.waitFor(async () => expect(await find(id)).toMatchObject({ state: 'exited' }), patience)
        expect((await find(id))?.endpoint).toBeUndefined()
        await vi.waitFor(() => expect(events.seen).toContainEqual({ kind: 'changed', id }), patience)
        await endForeign(id, 'removed')
        await vi.waitFor(async () => expect(await find(id)).toBeUndefined(), patience)
        watching.abort()
        await events.ended
      })

      it('that is meant for another instance is not seen', async () => {
        const { runForeign, endForeign } = harness
        if (runForeign === undefined || endForeign === undefined) return
        const other = await harness.otherInstance()
        const labels = { 'dev.berth.module': manifest, 'dev.berth.for': other.spec().instance }
        const id = await runForeign({ labels, token: 'x' })
        expect((await other.engine.discover?.())?.map((each) => each.id)).toContain(id)
        expect((await harness.engine.discover?.())?.map((each) => each.id)).not.toContain(id)
        await endForeign(id, 'removed')
      })

      it('is none that an engine has started itself', async () => {
        if (harness.engine.discover === undefined) return
        const { workload } = await run()
        expect((await harness.engine.discover()).map((each) => each.id)).not.toContain(workload.id)
      })
    })

    describe('a module that is gone for good', () => {
      it('keeps its data over a restart and while it is away, and loses it when that is forgotten', async () => {
        const keep = { do: 'keep', say: 'x' }
        const first = await runUntilIdle({ generation: 1 })
        expect(await inferText(first.workload.endpoint, first.spec, keep)).toBe('x')
        await harness.engine.stop(first.workload.id, { graceMs: 5_000 })

        const second = await runUntilIdle({ generation: 2 })
        expect(await inferText(second.workload.endpoint, second.spec, keep)).toBe('xx')
        await harness.engine.stop(second.workload.id, { graceMs: 5_000 })
        await harness.engine.forget(second.spec.module, { data: false })
        await harness.engine.forget(second.spec.module, { data: false })

        const third = await runUntilIdle({ generation: 3 })
        expect(await inferText(third.workload.endpoint, third.spec, keep)).toBe('xxx')
        await harness.engine.stop(third.workload.id, { graceMs: 5_000 })
        await harness.engine.forget(third.spec.module, { data: true })
        await harness.engine.forget(third.spec.module, { data: true })

        const fourth = await runUntilIdle({ generation: 4 })
        expect(await inferText(fourth.workload.endpoint, fourth.spec, keep)).toBe('x')
      })
    })

    describe('the engine itself', () => {
      it('says what it is', async () => {
        const { capabilities } = harness.engine
        await harness.engine.ping(forever())
        expect(capabilities.description).not.toBe('')
        if (capabilities.isolation === 'none') expect(capabilities.weaknesses.length).toBeGreaterThan(0)
      })

      it('finds running workloads again after a restart where it adopts, and ends them where it does not', async () => {
        const { workload, spec } = await runUntilIdle()
        await harness.restartEngine()
        if (!harness.engine.capabilities.adopts) {
          expect(await harness.engine.list()).toEqual([])
          await expect(health(workload.endpoint)).rejects.toThrow()
          return
        }
        const adopted = await observed(workload.id)
        expect(adopted).toMatchObject({ state: 'running', specHash: spec.specHash, generation: spec.generation })
        if (adopted?.endpoint === undefined) throw new Error('an adopted workload has no endpoint')
        expect(await health(adopted.endpoint)).toMatchObject({ state: 'idle' })
        expect((await harness.engine.start(spec, forever())).id).toBe(workload.id)
        await harness.engine.stop(workload.id, { graceMs: 10_000 })
        expect(await harness.engine.list()).toEqual([])
      })

      it('can be closed twice', async () => {
        const other = await harness.otherInstance()
        await other.engine.close()
        await other.engine.close()
      })
    })
  })
}

async function health(endpoint: Endpoint): Promise<unknown> {
  const answer = await callEndpoint(endpoint, { path: '/health', timeoutMs: 5_000 })
  expect(answer.status).toBe(200)
  return answer.json
}

function untilState(endpoint: Endpoint, state: string): Promise<unknown> {
  return vi.waitFor(async () => {
    const answer = await health(endpoint)
    expect(answer).toMatchObject({ state })
    return answer
  }, patience)
}

async function load(endpoint: Endpoint, spec: WorkloadSpec): Promise<void> {
  const body = { models: spec.runner.models }
  expect(await callEndpoint(endpoint, { path: '/load', body, token: spec.token })).toMatchObject({ status: 200 })
}

const inferBody = (spec: WorkloadSpec, parameters: Record<string, unknown>) => ({
  model: spec.module,
  config: {},
  parameters,
})

async function infer(endpoint: Endpoint, spec: WorkloadSpec, parameters: Record<string, unknown>): Promise<unknown[]> {
  await load(endpoint, spec)
  const body = inferBody(spec, parameters)
  const answer = await callEndpoint(endpoint, { path: '/infer', body, token: spec.token })
  expect(answer.status).toBe(200)
  if (!Array.isArray(answer.json)) throw new Error('an inference did not answer a stream')
  expect(answer.json.at(-1)).toMatchObject({ done: true })
  return answer.json
}

/** All text of an inference. */
async function inferText(endpoint: Endpoint, spec: WorkloadSpec, parameters: Record<string, unknown>): Promise<string> {
  const frames = (await infer(endpoint, spec, parameters)) as { chunk?: { response: { text?: string } } }[]
  return frames.map((frame) => frame.chunk?.response.text ?? '').join('')
}

/** An inference under way: its first chunk has come. */
async function beginInfer(endpoint: Endpoint, spec: WorkloadSpec, parameters: Record<string, unknown>) {
  await load(endpoint, spec)
  const body = inferBody(spec, parameters)
  const stream = await openEndpoint(endpoint, { path: '/infer', body, token: spec.token })
  stream.on('error', ignore)
  await new Promise((resolve, reject) => {
    stream.once('data', resolve)
    stream.once('close', () => reject(new Error('the stream closed before its first chunk')))
  })
  stream.resume()
  return stream
}

function collectLines(): { onProgress(progress: PrepareProgress): void; installs(): Set<string> } {
  const lines: string[] = []
  return {
    onProgress: ({ line }) => {
      if (line !== undefined) lines.push(line)
    },
    /** The tokens of the installs that were seen. */
    installs: () => new Set(lines.flatMap((line) => /probe install ([0-9a-f]{32})/.exec(line)?.[1] ?? [])),
  }
}

function watch(engine: Engine, signal: AbortSignal): { readonly seen: WorkloadEvent[]; readonly ended: Promise<void> } {
  const seen: WorkloadEvent[] = []
  const ended = (async () => {
    for await (const event of engine.watch(signal)) seen.push(event)
  })()
  return { seen, ended }
}
