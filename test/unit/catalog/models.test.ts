import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { assembleManifest } from '../../../orchestrator/catalog/assemble.ts'
import { resolveModels } from '../../../orchestrator/catalog/models.ts'
import { readModuleYaml } from '../../../orchestrator/catalog/module-yaml.ts'
import type { ConfiguredModel } from '../../../orchestrator/config/config.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { JsonObject } from '../../../orchestrator/domain/json.ts'
import { caught } from '../../support/caught.ts'

const module = (id: string, yaml = '') =>
  assembleManifest({
    id,
    format: 'service',
    source: { kind: 'folder', path: `/modules/${id}` },
    base: { kind: 'default' },
    requirements: { extra: [], hash: '', empty: true },
    yaml: readModuleYaml(yaml, { file: 'module.yaml', subject: id, details: {} }),
    settings: {},
    defaults: {},
    content: '',
  })

const model = (written: JsonObject & { readonly module?: string; readonly redirect_to?: string }): ConfiguredModel => ({
  ...(written.module === undefined ? {} : { module: written.module }),
  ...(written.redirect_to === undefined ? {} : { redirectTo: written.redirect_to }),
  configuration: written,
  location: 'berth.yaml:1:1',
})

const resolve = (models: Record<string, ConfiguredModel>, ...modules: ReturnType<typeof module>[]) =>
  resolveModels({ models }, modules)

describe('a module', () => {
  test('for which no model is named offers one of its own name with an empty configuration', () => {
    expect(resolve({}, module('minilm')).lookup('minilm')).toMatchObject({
      name: 'minilm',
      module: 'minilm',
      configuration: {},
      maxSimulUsers: 1,
    })
  })

  test.each(['constructor', 'toString', '__proto__'])('may be called %s, as every object has it', (id) => {
    expect(resolve({}, module(id)).lookup(id)).toMatchObject({ module: id, configuration: {} })
    expect(typeof resolve({}, module(id)).lookup(id)?.configuration).toBe('object')
  })

  test('offers those of its module.yaml, with its own limits where they say none', () => {
    const resolved = resolve(
      {},
      module('m', 'models: {a: {max_simul_users: 4, idle_ttl: 5m}, b: {offload_seconds: 7}}\nconcurrency: 2'),
    )
    expect(resolved.ofModule('m')).toEqual([
      {
        name: 'a',
        module: 'm',
        configuration: { max_simul_users: 4, idle_ttl: '5m' },
        maxSimulUsers: 4,
        idleTtlMs: 300_000,
      },
      { name: 'b', module: 'm', configuration: { offload_seconds: 7 }, maxSimulUsers: 2, idleTtlMs: 7_000 },
    ])
    expect(resolved.models.has('m')).toBe(false)
  })

  test('that berth.yaml names models for does not offer its own name', () => {
    expect([...resolve({ a: model({ module: 'm' }) }, module('m')).models.keys()]).toEqual(['a'])
  })

  test('keeps its own models beside those of berth.yaml, whose entry wins whole', () => {
    const resolved = resolve({ a: model({ module: 'm', x: 1 }) }, module('m', 'models: {a: {y: 2}, b: {}}'))
    expect([...resolved.models.keys()]).toEqual(['a', 'b'])
    expect(resolved.lookup('a').configuration).toEqual({ module: 'm', x: 1 })
  })
})

describe('one name in two modules', () => {
  const two = [module('x', 'models: {a: {}}'), module('y', 'models: [a, b]')]

  test('is an error that names both, and touches no other model', async () => {
    const resolved = resolve({}, ...two)
    const error = await caught(() => resolved.lookup('a'))
    expect(error).toMatchObject({ code: 'DEPENDENCY_CONFLICT', details: { modules: ['x', 'y'], model: 'a' } })
    expect(resolved.moduleProblems.get('x')).toEqual([error])
    expect(resolved.moduleProblems.get('y')).toEqual([error])
    expect(resolved.lookup('b').module).toBe('y')
  })

  test('is decided by berth.yaml', () => {
    const resolved = resolve({ a: model({ module: 'y' }) }, ...two)
    expect(resolved.lookup('a').module).toBe('y')
    expect(resolved.problems.size).toBe(0)
  })
})

describe('a model whose module is not there', () => {
  test('is listed with MODULE_NOT_FOUND and works when the module comes', async () => {
    const models = { a: model({ module: 'minlm' }) }
    const without = resolve(models, module('minilm'))
    expect(without.models.get('a')).toMatchObject({ module: 'minlm' })
    const error = await caught(() => without.lookup('a'))
    expect(error).toMatchObject({ code: 'MODULE_NOT_FOUND', details: { model: 'a', module: 'minlm' } })
    expect(error.message).toContain('module: minilm')
    expect(resolve(models, module('minlm')).lookup('a').module).toBe('minlm')
  })

  test('has the error of the module when that is broken', async () => {
    const broken = new BerthError('MANIFEST_INVALID', 'broken')
    const resolved = resolveModels({ models: { a: model({ module: 'm' }) } }, [], new Map([['m', broken]]))
    expect(await caught(() => resolved.lookup('a'))).toBe(broken)
  })
})

describe('redirect_to', () => {
  test('makes a name stand for another model, over several steps and out of a module.yaml', () => {
    const resolved = resolve(
      { a: model({ redirect_to: 'b' }), b: model({ redirect_to: 'c' }) },
      module('m', 'models: {c: {}, d: {redirect_to: a}}'),
    )
    expect(['a', 'b', 'c', 'd'].map((name) => resolved.lookup(name).name)).toEqual(['c', 'c', 'c', 'c'])
    expect([...resolved.models.keys()]).toEqual(['c'])
    expect(Object.fromEntries(resolved.aliases)).toEqual({ a: 'c', b: 'c', d: 'c' })
  })

  test('that leads in a circle is an error that prints it', async () => {
    const resolved = resolve({
      a: model({ redirect_to: 'b' }),
      b: model({ redirect_to: 'c' }),
      c: model({ redirect_to: 'b' }),
    })
    expect(await caught(() => resolved.lookup('a'))).toMatchObject({
      code: 'DEPENDENCY_CYCLE',
      message: expect.stringContaining('b -> c -> b'),
    })
  })

  test('that leads nowhere names the nearest model', async () => {
    const resolved = resolve({ a: model({ redirect_to: 'minilmm' }) }, module('minilm'))
    expect(await caught(() => resolved.lookup('a'))).toMatchObject({
      code: 'MODEL_NOT_FOUND',
      message: expect.stringContaining('Did you mean "minilm"?'),
    })
  })

  test('to a model with a problem has that problem', async () => {
    const resolved = resolve({ a: model({ redirect_to: 'b' }), b: model({ module: 'gone' }) })
    expect((await caught(() => resolved.lookup('a'))).code).toBe('MODULE_NOT_FOUND')
  })

  test('whatever leads where, every alias ends at a model or has a problem', () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    const links = fc.uniqueArray(fc.tuple(fc.constantFrom(...names), fc.constantFrom(...names, 'real', 'nowhere')), {
      selector: ([from]) => from,
    })
    fc.assert(
      fc.property(links, (written) => {
        const models = Object.fromEntries(written.map(([from, to]) => [from, model({ redirect_to: to })]))
        const resolved = resolve({ ...models, real: model({ module: 'm' }) }, module('m'))
        for (const [from] of written) {
          expect(resolved.aliases.has(from)).not.toBe(resolved.problems.has(from))
          if (resolved.aliases.has(from)) expect(resolved.lookup(from).name).toBe('real')
        }
      }),
    )
  })
})

test('an unknown model names the nearest one', async () => {
  const error = await caught(() => resolve({}, module('minilm')).lookup('mini-lm'))
  expect(error).toMatchObject({ code: 'MODEL_NOT_FOUND', message: expect.stringContaining('Did you mean "minilm"?') })
})
