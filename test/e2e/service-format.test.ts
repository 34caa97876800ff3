import { chmod, cp, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { extraOf, failureOf, inferFailure, textOf } from '../support/answers.ts'
import { engines } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** The table "Service modules" of docs/modules.md, row by row, as a user sees it over HTTP: folders, models, names, world. */

const folder = 'test/testdata/modules-e2e'
const config = `
models:
  first: { module: probe, max_simul_users: 2, temperature: 1.0, count: 3, nested: { deep: [1, 2.0] } }
  also: { redirect_to: first }
  also-also: { redirect_to: also }
  chosen: { module: twin-b }
  later: { module: comes-later }
  nowhere: { redirect_to: no-such-model }
services:
  by-document: { service: probe, offload_seconds: -1 }
module_settings:
  probe: { config: { nested: { replaced: 2, added: true }, list: [9] } }
`
const answers = (text: string) => `
def SERVICE_LOAD_MODELS(Models):
    pass

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": ${JSON.stringify(text)}}
`

describe('service modules', () => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine: 'process',
      config,
      copy: [`${folder}/probe`, `${folder}/twin-a`, `${folder}/twin-b`],
      modules: {
        plain: { 'service.py': answers('plain') },
        served: { 'serv.py': answers('by serv.py') },
        unset: {
          'service.py': answers('').replace(
            '{"text": ""}',
            '{"extra": {"service": ServiceConfiguration, "services": ServerConfiguration["services"]}}',
          ),
        },
        'has space': { 'service.py': answers('never') },
        __pycache__: { 'service.py': answers('never') },
        '.hidden': { 'service.py': answers('never') },
        node_modules: { 'service.py': answers('never') },
      },
    })
    await writeFile(join(berth.modulesFolder, 'a-file.txt'), 'no module')
  })
  afterAll(() => berth?.close())

  const ids = async () =>
    (await berth.json<{ modules: { id: string }[] }>('GET', '/api/modules')).modules.map(({ id }) => id)

  describe('discovery', () => {
    it('takes every folder for a module, and nothing else', async () => {
      expect(await ids()).toEqual(['has space', 'plain', 'probe', 'served', 'twin-a', 'twin-b', 'unset'])
    })

    it('lists a folder with a space in its name with its error; the others answer', async () => {
      const view = await berth.module('has space')
      expect(view).toMatchObject({ state: 'failed', error: { code: 'MANIFEST_INVALID' } })
      expect(view.error?.message).toMatch(/"has space" has a space.*"has_space"/)
      expect(textOf(await berth.infer('plain'))).toBe('plain')
    })

    it('shows a folder within two seconds of its being dropped in, and drains it when it is taken out', async () => {
      await berth.writeModule('comes', { 'service.py': answers('come') })
      await waitFor(2_000, 'it is listed', async () => (await ids()).includes('comes'))
      expect(textOf(await berth.infer('comes'))).toBe('come')
      await rm(join(berth.modulesFolder, 'comes'), { recursive: true })
      await waitFor(20_000, 'it is gone', async () => !(await ids()).includes('comes'))
      expect(await inferFailure(berth, 'comes')).toMatchObject({ status: 404, code: 'MODEL_NOT_FOUND' })
    })

    it('lets a stream of a folder that is taken out end', async () => {
      const gate = join(berth.folder, 'gate-of-removed')
      await cp(join(import.meta.dirname, '../testdata/modules-e2e/counts'), join(berth.modulesFolder, 'leaves'), {
        recursive: true,
      })
      await berth.until('leaves', ({ state }) => state === 'absent')
      const stream = await berth.stream('leaves', { parameters: { gate } })
      expect((await stream.nextOf())?.chunk?.response.extra).toMatchObject({ begun: 1 })
      await rename(join(berth.modulesFolder, 'leaves'), join(berth.folder, 'taken-out'))
      await waitFor(20_000, 'it is no longer listed', async () => !(await ids()).includes('leaves'))
      await writeFile(gate, 'go')
      expect((await stream.rest()).at(-1)).toEqual({ done: true })
    })

    it('restarts only the module whose file was edited, and the new code answers', async () => {
      await Promise.all([berth.infer('plain'), berth.infer('served')])
      const before = (await berth.module('served')).replicas
      await berth.writeModule('plain', { 'service.py': answers('edited') })
      await waitFor(20_000, 'the new code answers', async () => textOf(await berth.infer('plain')) === 'edited')
      expect((await berth.module('served')).replicas).toEqual(before)
      await berth.writeModule('plain', { 'service.py': answers('plain') })
      await waitFor(20_000, 'the old code answers', async () => textOf(await berth.infer('plain')) === 'plain')
    })
  })

  describe('models', () => {
    it('offers one of its own name, with an empty configuration, where none is named', async () => {
      expect((await berth.module('plain')).models).toEqual(['plain'])
      expect((await berth.module('probe')).models).toEqual(['first', 'by-document'])
    })

    it('follows aliases, also of aliases', async () => {
      expect(await extraOf(berth, 'also-also', { do: 'arguments' })).toMatchObject({ name: 'first' })
    })

    it('names the modules that offer the same model, until berth.yaml decides', async () => {
      const failure = await inferFailure(berth, 'shared')
      expect(failure).toMatchObject({ code: 'DEPENDENCY_CONFLICT', status: 422 })
      expect(failure.message).toMatch(/twin-a and twin-b/)
      expect(failure.details).toMatchObject({ modules: ['twin-a', 'twin-b'] })
      expect(textOf(await berth.infer('chosen'))).toBe('twin-b answers for chosen')
      expect(textOf(await berth.infer('of-a'))).toBe('twin-a answers for of-a')
    })

    it('lists a model whose module is not there with its error, and serves it when the module comes', async () => {
      const listed = (await berth.models()).find(({ name }) => name === 'later')
      expect(listed).toMatchObject({ state: 'failed', module: 'comes-later', error: { code: 'MODULE_NOT_FOUND' } })
      expect(await inferFailure(berth, 'later')).toMatchObject({
        status: 404,
        code: 'MODULE_NOT_FOUND',
        details: { module: 'comes-later', model: 'later', remedy: expect.stringContaining('comes-later') },
      })
      await berth.writeModule('comes-later', { 'service.py': answers('better late') })
      await waitFor(20_000, 'it answers', async () => textOf(await berth.infer('later')) === 'better late')
    })

    it('says what an alias of nothing leads to', async () => {
      const failure = await inferFailure(berth, 'nowhere')
      expect(failure).toMatchObject({ status: 404, code: 'MODEL_NOT_FOUND' })
      expect(failure.message).toContain('no-such-model')
    })
  })

  describe('names and import', () => {
    it('prefers service.py, requirements and default_service_configuration.yaml; the losers are never read', async () => {
      expect(await extraOf(berth, 'first', { do: 'imported' })).toEqual({
        one: true,
        sibling: 'by the sibling',
        name: 'probe',
        package: '',
        entry: 'service.py',
        loser: 'never imported',
      })
      expect(textOf(await berth.infer('served'))).toBe('by serv.py')
    })

    it('injects both configurations; what load is given is the object that inference finds again', async () => {
      const extra = await extraOf(berth, 'first', { do: 'injected' })
      expect(extra).toMatchObject({
        service: {
          from: 'default_service_configuration',
          nested: { kept: 1, replaced: 2, added: true },
          list: [9],
          float: 1,
        },
        services: ['by-document', 'first'],
        live: 'object',
        same: true,
        types: { temperature: 'float', count: 'int', max_simul_users: 'int', nested: 'dict' },
      })
      expect(extra.service).not.toHaveProperty('loser')
      expect(extra.loads).toContainEqual([
        'first',
        { module: 'probe', max_simul_users: 2, temperature: 1, count: 3, nested: { deep: [1, 2] } },
      ])
    })

    it('injects no ServiceConfiguration where there is neither a file nor a setting', async () => {
      expect(await extraOf(berth, 'unset', {})).toEqual({ service: null, services: { unset: {} } })
    })

    it('accepts that a module loads again inside an inference', async () => {
      expect(textOf(await berth.infer('first', { parameters: { do: 'loads_again' } }))).toBe('loaded again')
    })
  })

  it('says LOAD_FAILED, with what is missing, of a module without the three functions', async () => {
    await berth.writeModule('partial', {
      'service.py': 'SERVICE_LOAD_MODELS = 5\n\ndef SERVICE_INFERENCE(*_):\n    yield {}\n',
    })
    await berth.until('partial', ({ state }) => state === 'absent')
    const failure = await failureOf(await berth.request('POST', '/api/models/partial/infer', {}))
    expect(failure).toMatchObject({ code: 'LOAD_FAILED', status: 502, origin: 'module' })
    expect(failure.message).toMatch(/SERVICE_LOAD_MODELS, SERVICE_OFFLOAD_MODELS/)
    expect(failure.details).toMatchObject({ missing: ['SERVICE_LOAD_MODELS', 'SERVICE_OFFLOAD_MODELS'] })
  })
})

describe.each(engines)('the world of a module on the %s engine', (engine) => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine,
      copy: [`${folder}/probe`],
      modules: {
        probe: { 'module.yaml': 'models: { probe: {} }\n' },
        both: { 'service.py': answers('both') },
      },
    })
    await chmod(join(berth.modulesFolder, 'probe/private.txt'), 0o600)
    await chmod(join(berth.modulesFolder, 'probe/helper.py'), 0o600)
  })
  afterAll(() => berth?.close())

  it('has readable files, a writable working directory with Temp and links, a home and a cache for models', async () => {
    const inside = engine === 'docker'
    expect(await extraOf(berth, 'probe', { do: 'world' })).toMatchObject({
      private: 'read me',
      links: ['read me', 'read me'],
      cwdIsFolder: false,
      writable: {
        cwd: true,
        temp: true,
        home: true,
        tmp: true,
        ...(inside ? { folder: false, root: false } : {}),
      },
      cache: [true, true, true],
      ...(inside ? { user: [10001, 10001] } : {}),
    })
  })

  it('keeps what it wrote in its working directory over a restart', async () => {
    const { visits } = await extraOf(berth, 'probe', { do: 'world' })
    const restarted = await berth.request('POST', '/api/modules/probe/restart?wait=true', {})
    expect(restarted.status).toBe(200)
    expect(await extraOf(berth, 'probe', { do: 'world' })).toMatchObject({ visits: Number(visits) + 1 })
  })

  it('imports siblings under both names', async () => {
    expect(await extraOf(berth, 'probe', { do: 'imported' })).toMatchObject({ one: true, sibling: 'by the sibling' })
  })

  it('restarts with edited files', async () => {
    expect(textOf(await berth.infer('both'))).toBe('both')
    await berth.writeModule('both', { 'service.py': answers('edited') })
    await waitFor(30_000, 'the new code answers', async () => textOf(await berth.infer('both')) === 'edited')
  })

  it('leaves when its folder does', async () => {
    await rm(join(berth.modulesFolder, 'both'), { recursive: true })
    await waitFor(30_000, 'it is gone', async () => (await berth.request('GET', '/api/modules/both')).status === 404)
  })
})

describe.runIf(engines.includes('docker'))('a GPU', () => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({
      engine: 'docker',
      copy: [`${folder}/probe`],
      modules: { probe: { 'module.yaml': 'models: [probe]\ngpu: { count: 1 }\n' } },
    })
  })
  afterAll(() => berth?.close())

  it('is in the container of a module that asks for one', async (context) => {
    const { gpus } = await berth.json<{ gpus: { id: string }[] }>('GET', '/api/gpus')
    if (gpus.length === 0) context.skip('Docker has no GPUs, not even simulated ones')
    expect(await extraOf(berth, 'probe', { do: 'world' })).toMatchObject({
      gpu: { devices: [expect.stringMatching(/^nvidia\d$/)], visible: '0' },
    })
    expect((await berth.module('probe')).replicas[0]?.gpus).toHaveLength(1)
  })
})
