import { symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createFileDigests } from '../../../orchestrator/catalog/files.ts'
import { readModuleFolder } from '../../../orchestrator/catalog/module-folder.ts'
import type { Problem } from '../../../orchestrator/config/problems.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'
import { errorOf, manifestOf } from './manifests.ts'

const service = { 'service.py': 'def SERVICE_INFERENCE(*args): yield {}' }

describe('a service folder', () => {
  test('is a module of its own name, with every default', async () => {
    const manifest = await manifestOf({ files: service, name: 'minilm' })
    expect(manifest).toMatchObject({
      id: 'minilm',
      format: 'service',
      entry: 'service.py',
      base: { kind: 'default' },
      requirements: { empty: true, extra: [] },
      resources: {},
      network: 'none',
      scale: { min: 0, max: 1 },
      concurrency: 1,
      idleTtlMs: Number.POSITIVE_INFINITY,
      stopTtlMs: Number.POSITIVE_INFINITY,
      calls: [],
      onDisconnect: 'cancel',
      timeouts: {
        installMs: 1_800_000,
        startMs: 60_000,
        loadMs: 900_000,
        inferMs: Number.POSITIVE_INFINITY,
        firstChunkMs: 300_000,
        betweenChunksMs: 120_000,
        callMs: 60_000,
        drainMs: 30_000,
      },
      queue: { limit: 64, timeoutMs: 60_000 },
      serves: [],
      models: {},
      env: {},
    })
    expect(manifest.gpu).toBeUndefined()
  })

  test('prefers service.py to serv.py, and requirements.py to requirements.txt', async () => {
    const both = { 'serv.py': '', 'requirements.txt': 'numpy', 'requirements.py': 'def Install(): pass' }
    expect(await manifestOf({ files: { ...service, ...both } })).toMatchObject({
      entry: 'service.py',
      requirements: { file: 'requirements.py', empty: false },
    })
    expect(await manifestOf({ files: { 'serv.py': '', 'requirements.txt': 'numpy' } })).toMatchObject({
      entry: 'serv.py',
      requirements: { file: 'requirements.txt', empty: false },
    })
  })
})

describe('module.yaml', () => {
  test('says what the format can not say', async () => {
    const yaml = `id: other
version: 1.2.3
description: 2.0
python: 3.10
gpu: {count: 2, memory: 8GiB}
resources: {cpus: 0.5, memory: 512MiB}
network: egress
scale: {max: 4, target_inflight: 2}
concurrency: 3
idle_ttl: 10m
timeouts: {load: 5}
requirements: [numpy]
serves: [embedding]
models: {a: {threshold: 1.0}, b: }
`
    const manifest = await manifestOf({ files: { ...service, 'module.yaml': yaml } })
    expect(manifest).toMatchObject({
      id: 'other',
      version: '1.2.3',
      description: '2.0',
      python: '3.10',
      gpu: { count: 2, memoryBytes: 8 * 1024 ** 3, optional: false },
      resources: { cpus: 0.5, memoryBytes: 512 * 1024 ** 2 },
      network: 'egress',
      scale: { min: 0, max: 4, targetInflight: 2 },
      concurrency: 3,
      idleTtlMs: 600_000,
      timeouts: { loadMs: 5_000, startMs: 60_000 },
      requirements: { extra: ['numpy'], empty: false },
      serves: ['embedding'],
    })
    expect(JSON.stringify(manifest.models)).toBe('{"a":{"threshold":1.0},"b":{}}')
  })

  test('everything that is wrong is said with its line, and typos name the nearest key', async () => {
    const error = await errorOf({
      files: {
        ...service,
        'module.yaml': 'versoin: 1\nversion: 1.0\nscale: {min: 2, max: 1}\ntimeouts: {lod: 1m}\nid: x',
      },
    })
    expect(error.code).toBe('MANIFEST_INVALID')
    expect(error.details).toMatchObject({ module: 'x', file: 'm/module.yaml', line: 1, remedy: expect.any(String) })
    expect(
      (error.details.problems as Problem[]).map(({ line, field, message }) => `${line} ${field} ${message}`),
    ).toEqual([
      '1 versoin unknown key "versoin", did you mean "version"?',
      '2 version "1.0" is no version: write three numbers as in 1.0.0 (semver.org)',
      '3 scale.min 2 is more than max (1): raise max or lower min',
      '4 timeouts.lod unknown key "lod", did you mean "load"?',
    ])
  })

  test.each([
    ['image: a\ndockerfile: b', 'keep one of the two'],
    ['dockerfile: ../Dockerfile', "must lie in the module's folder"],
    ['dependencies: {other: latest}', 'is no range of versions'],
    ['id: my module', 'must be a name of at most 63 letters'],
    ['network: all', 'must be none or egress'],
    ['gpu: many', 'must be a number of GPUs'],
    ['requirements: numpy', 'must be a list'],
    ['models: {m: {max_simul_users: "four"}}', 'must be a whole number, 1 or more'],
    ['models: {m: {idle_ttl: soon}}', 'must be a duration'],
    ['a: [', 'no valid YAML'],
  ])('%j is an error', async (yaml, message) => {
    expect((await errorOf({ files: { ...service, 'module.yaml': yaml } })).message).toContain(message)
  })

  test('does not get at the environment', async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what must stay as it is
    const manifest = await manifestOf({ files: { ...service, 'module.yaml': 'description: "${HOME}"' } })
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what must stay as it is
    expect(manifest.description).toBe('${HOME}')
  })

  test('an image is the base of a service, and alone it is the module', async () => {
    expect((await manifestOf({ files: { ...service, 'module.yaml': 'image: cuda:1' } })).base).toEqual({
      kind: 'image',
      image: 'cuda:1',
    })
    expect(await manifestOf({ files: { 'module.yaml': 'image: some/model:1' } })).toMatchObject({
      format: 'image',
      base: { kind: 'protocol', image: 'some/model:1' },
    })
  })

  test('a dockerfile must be there', async () => {
    const yaml = { 'module.yaml': 'dockerfile: ./Dockerfile' }
    expect((await manifestOf({ files: { ...service, ...yaml, Dockerfile: 'FROM x' } })).base).toMatchObject({
      kind: 'dockerfile',
      dockerfile: 'Dockerfile',
    })
    expect((await errorOf({ files: { ...service, ...yaml } })).details).toMatchObject({
      field: 'dockerfile',
      module: 'm',
    })
  })

  test('a dockerfile needs a service to run in it', async () => {
    const error = await errorOf({ files: { 'module.yaml': 'dockerfile: Dockerfile', Dockerfile: 'FROM x' } })
    expect(error).toMatchObject({ code: 'MANIFEST_INVALID', details: { field: 'dockerfile', module: 'm' } })
    expect(error.message).toContain('service.py')
  })
})

describe('settings of berth.yaml', () => {
  test('win over module.yaml, key by key', async () => {
    const manifest = await manifestOf({
      files: { ...service, 'module.yaml': 'gpu: 1\nscale: {max: 2}\nqueue: {limit: 5, timeout: 1s}\nidle_ttl: 1m' },
      settings: {
        gpu: false,
        scale: { min: 3 },
        queue: { limit: 9 },
        config: { a: 1 },
        env: { TOKEN: 't' },
        requirements: ['x'],
      },
    })
    expect(manifest.gpu).toBeUndefined()
    expect(manifest).toMatchObject({
      scale: { min: 3, max: 3 },
      queue: { limit: 9, timeoutMs: 1_000 },
      idleTtlMs: 60_000,
      configuration: { a: 1 },
      env: { TOKEN: 't' },
      requirements: { extra: ['x'] },
    })
  })
})

describe('a folder that is no module', () => {
  test('with a space in its name is an error of that folder', async () => {
    const error = await errorOf({ files: service, name: 'my module' })
    expect(error).toMatchObject({
      code: 'MANIFEST_INVALID',
      details: { module: 'my module', remedy: expect.stringContaining('my_module') },
    })
  })

  test.each([
    [{ 'Service.py': '' }, 'Did you mean "service.py" by "Service.py"?'],
    [{ 'inner/service.py': '' }, 'There is one in inner: move that folder up.'],
    [{ 'readme.md': '' }, 'Add a service.py'],
    [{}, 'Add a service.py'],
  ])('%j says what is missing', async (files, hint) => {
    const error = await errorOf({ files: { '.keep': '', ...files } })
    expect(error.code).toBe('MANIFEST_INVALID')
    expect(error.message).toContain(hint)
  })

  test('blocks and reactory modules are recognised as not supported', async () => {
    const block = await errorOf({ files: { 'info.json': '{}', '__init__.py': '' } })
    expect(block).toMatchObject({ code: 'ENGINE_UNSUPPORTED', details: { format: 'block' } })
    const reactory = await errorOf({
      files: { 'index.ts': '' },
      beside: { 'enabled-local.json': '[{ "moduleEntry": "m/index.ts", },]' },
    })
    expect(reactory).toMatchObject({ code: 'ENGINE_UNSUPPORTED', details: { format: 'reactory' } })
  })
})

describe('the content hash', () => {
  const hashOf = async (files: Record<string, string>, settings = {}) =>
    (await manifestOf({ files, settings })).contentHash
  const base = { ...service, 'lib/a.py': '1' }

  test('is the same for the same files, wherever they lie and whenever they were written', async () => {
    expect(await hashOf(base)).toBe(await hashOf(base))
  })

  test('ignores what is not part of the module, and settings that only the orchestrator acts on', async () => {
    const more = {
      '.git/HEAD': 'x',
      '__pycache__/a.pyc': 'x',
      'lib/__pycache__/b.pyc': 'x',
      'node_modules/x/y.js': 'x',
      '.env': 'x',
    }
    const tuned = { scale: { max: 3 }, queue: { limit: 1 }, idleTtlMs: 5, concurrency: 4, timeouts: { loadMs: 1 } }
    expect(await hashOf({ ...base, ...more }, tuned)).toBe(await hashOf(base))
  })

  test.each([
    ['a file changes', { ...base, 'lib/a.py': '2' }, {}],
    ['a file is added', { ...base, 'lib/b.py': '' }, {}],
    ['a file moves', { ...service, 'lib/b.py': '1' }, {}],
    ['its configuration changes', base, { config: { a: 1 } }],
    ['its environment changes', base, { env: { A: '1' } }],
    ['its GPU changes', base, { gpu: { count: 1, optional: false } }],
  ])('changes when %s', async (_what, files, settings) => {
    expect(await hashOf(files, settings)).not.toBe(await hashOf(base))
  })

  test('tells 1 from 1.0 in a configuration', async () => {
    const yaml = (text: string) => ({ ...service, 'module.yaml': `models: {a: {x: ${text}}}` })
    expect(await hashOf(yaml('1'))).not.toBe(await hashOf(yaml('1.0')))
  })
})

test('links are followed, a link in a circle and one that leads nowhere are no error', async () => {
  const modules = tempFolder()
  const folder = join(modules, 'm')
  writeFiles(folder, { 'lib/a.py': '' })
  writeFiles(modules, { 'elsewhere/service.py': '' })
  symlinkSync(join(modules, 'elsewhere/service.py'), join(folder, 'service.py'))
  symlinkSync(folder, join(folder, 'lib/again'))
  symlinkSync('/nowhere/at/all', join(folder, 'broken'))
  const manifest = await readModuleFolder(folder, { digests: createFileDigests(), settings: {}, defaults: {} })
  expect(manifest.entry).toBe('service.py')
})
