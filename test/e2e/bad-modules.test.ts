import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { inferFailure, textOf, type WireFailure } from '../support/answers.ts'
import { engines, plainModule } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** Modules that go wrong: each gets a clear error, and the orchestrator and every other module go on. */

const config = `
models:
  bad: { module: bad, max_simul_users: 4 }
  exits-at-load: { module: bad, load: exits_at_load }
  raises-at-load: { module: bad, load: raises_at_load }
  hangs-at-load: { module: bad, load: hangs_at_load }
  dies-at-load: { module: bad, load: dies_at_load }
module_settings:
  bad: { timeouts: { load: 1s } }
  slow: { timeouts: { first_chunk: 1s, between_chunks: 1s } }
  endless: { timeouts: { infer: 1s } }
  greedy: { resources: { memory: 160MiB } }
`
const folder = 'test/testdata/modules-e2e'

describe.each(engines)('a module on the %s engine', (engine) => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine,
      config,
      copy: [`${folder}/bad`],
      modules: {
        good: { ...plainModule },
        lacking: { 'service.py': 'SERVICE_LOAD_MODELS = 5\n\ndef SERVICE_INFERENCE(*_):\n    yield {}\n' },
        syntax: { 'service.py': 'def SERVICE_LOAD_MODELS(Models):\n    pass\n\ndef broken(:\n' },
        importing: { 'service.py': 'import json\nimport no_such_package\n' },
        exiting: { 'service.py': 'import sys\nsys.exit(4)\n' },
        dying: { 'service.py': 'import os\nos._exit(5)\n' },
      },
    })
    // The same code under other limits.
    const source = await readFile(join(berth.modulesFolder, 'bad/service.py'), 'utf8')
    for (const id of ['slow', 'endless', 'greedy']) await berth.writeModule(id, { 'service.py': source })
    for (const id of ['slow', 'endless', 'greedy']) await berth.until(id, ({ state }) => state === 'absent')
    await berth.infer('good')
  })
  afterAll(() => berth?.close())

  /** Fails as expected, and nothing else has come to harm. */
  async function fails(model: string, parameters: Record<string, unknown> = {}): Promise<WireFailure> {
    const before = (await berth.module('good')).replicas
    const failure = await inferFailure(berth, model, { parameters })
    expect(textOf(await berth.infer('good'))).toBe('0')
    expect((await berth.module('good')).replicas).toMatchObject(
      before.map(({ id, generation }) => ({ id, generation })),
    )
    expect((await berth.request('GET', '/healthz')).status).toBe(200)
    return failure
  }

  /** The module itself answers again. */
  const recovers = (model: string) =>
    waitFor(30_000, `${model} answers again`, async () => (await berth.infer(model)).at(-1)?.done === true)

  it.each([
    ['lacking', /lacking.*service\.py does not define SERVICE_LOAD_MODELS, SERVICE_OFFLOAD_MODELS as callable/],
    ['syntax', /syntax can't be imported: SyntaxError.*service\.py, line 4/],
    ['importing', /importing can't be imported: ModuleNotFoundError: No module named 'no_such_package'/],
    ['exiting', /exiting can't be imported: .*4/],
  ])('that is %s can not be imported, which is kept as its error', async (id, message) => {
    const failure = await fails(id)
    expect(failure).toMatchObject({ code: 'LOAD_FAILED', status: 502, origin: 'module', retryable: false })
    expect(failure.message).toMatch(message)
    expect(failure.details).toMatchObject({ module: id, file: expect.stringContaining('service.py') })
    if (id !== 'lacking') expect(failure.details.traceback).toContain('service.py')
    expect(await berth.module(id)).toMatchObject({ state: 'failed', error: { code: 'LOAD_FAILED' } })
  })

  it('that dies while it is imported says how', async () => {
    const failure = await fails('dying')
    expect(failure).toMatchObject({ code: 'WORKLOAD_EXITED', status: 502 })
    expect(failure.message).toMatch(/dying.*exit code 5/)
  })

  it('that was broken answers after an edit, without a restart', async () => {
    await berth.writeModule('syntax', { ...plainModule })
    await recovers('syntax')
  })

  it.each([
    ['exits-at-load', 'LOAD_FAILED', /loading exits-at-load failed: .*no reason to go on/],
    ['raises-at-load', 'LOAD_FAILED', /loading raises-at-load failed: FileNotFoundError: weights\.bin is not there/],
    ['hangs-at-load', 'LOAD_TIMEOUT', /bad did not load hangs-at-load within 1 s \(timeouts\.load\)/],
    ['dies-at-load', 'WORKLOAD_EXITED', /bad.*exit code 7/],
  ])('with a model that %s says so, and its other models answer', async (model, code, message) => {
    const failure = await fails(model)
    expect(failure).toMatchObject({ code, status: code === 'LOAD_TIMEOUT' ? 504 : 502 })
    expect(failure.message).toMatch(message)
    expect(failure.details).toMatchObject({ module: 'bad' })
    await recovers('bad')
  })

  it.each([
    ['no_dict', 'INFERENCE_FAILED', /yielded .*'just text'.*has to be a dict/],
    ['bare_bytes', 'INFERENCE_FAILED', /yielded .*bytes.*has to be a dict/],
    ['not_a_number', 'INFERENCE_FAILED', /NaN at extra\.scores\[1\]/],
    ['an_object', 'INFERENCE_FAILED', /object at extra\.inner\.thing/],
    ['text_of_bytes', 'INFERENCE_FAILED', /'text' as .*bytes/],
    ['returns_a_number', 'INFERENCE_FAILED', /int/],
    ['exits', 'INFERENCE_FAILED', /SystemExit.*3|sys\.exit.*3/],
    ['out_of_memory', 'OUT_OF_MEMORY', /no more/],
  ])('whose inference does `%s` fails that inference alone', async (what, code, message) => {
    const [before] = await berth.infer('bad')
    const failure = await fails('bad', { do: what })
    expect(failure).toMatchObject({ code, origin: 'module', retryable: false })
    expect(failure.message).toMatch(message)
    expect(failure.message).toContain("module bad: inference of model 'bad' failed")
    expect(failure.details).toMatchObject({ module: 'bad', model: 'bad' })
    const [after] = await berth.infer('bad')
    if (code === 'INFERENCE_FAILED') expect(after).toEqual(before)
  })

  it.each([
    ['dies', /exit code 9/],
    ['crashes', /SIGSEGV/],
  ])('whose inference `%s` gets a new worker, with its model loaded', async (what, message) => {
    const others = berth.stream('bad', { parameters: { do: 'stops_yielding' } })
    expect((await (await others).nextOf())?.chunk).toBeDefined()
    const failure = await fails('bad', { do: what })
    expect(failure).toMatchObject({ code: 'WORKLOAD_EXITED', retryable: true })
    expect(failure.message).toMatch(message)
    expect(failure.message).toContain('bad')
    expect((await (await others).rest()).at(-1)?.error?.code).toBe('WORKLOAD_EXITED')
    await recovers('bad')
  })

  it.each([
    ['slow', 'never_yields', /slow.* 1 s \(timeouts\.first_chunk\)/],
    ['slow', 'stops_yielding', /slow.* 1 s \(timeouts\.between_chunks\)/],
    ['endless', 'runs_on', /endless.* 1 s \(timeouts\.infer\)/],
  ])('named %s whose inference `%s` is given up in time', async (model, what, message) => {
    const [before] = await berth.infer(model)
    const failure = await fails(model, { do: what })
    expect(failure).toMatchObject({ code: 'INFERENCE_TIMEOUT' })
    expect(failure.message).toMatch(message)
    await recovers(model)
    if (what !== 'runs_on') expect((await berth.infer(model))[0]).not.toEqual(before)
  })

  it.runIf(engine === 'docker')('that takes more memory than it may says OUT_OF_MEMORY', async () => {
    const failure = await fails('greedy', { do: 'takes_memory' })
    expect(failure).toMatchObject({ code: 'OUT_OF_MEMORY' })
    expect(failure.message).toMatch(/greedy.*memory/)
    await recovers('greedy')
  })
})
