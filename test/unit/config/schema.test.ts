import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { Check } from 'typebox/value'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { ModuleDocument, manifestSchema } from '../../../orchestrator/catalog/module-yaml.ts'
import { ConfigDocument, configSchema } from '../../../orchestrator/config/schema.ts'
import { validate } from '../../../orchestrator/config/validate.ts'
import { parseBytes, parseDuration } from '../../../orchestrator/domain/quantity.ts'

const ajv = () => new Ajv2020({ strict: true, allowUnionTypes: true, strictRequired: false, strictTypes: false })

const schemas = [
  ['berth.yaml', configSchema, ConfigDocument],
  ['module.yaml', manifestSchema, ModuleDocument],
] as const

describe.each(schemas)('the schema of %s', (title, published, checked) => {
  test('is plain JSON Schema of 2020-12 that other tools accept', () => {
    expect(published).toMatchObject({ $schema: 'https://json-schema.org/draft/2020-12/schema', title })
    expect(JSON.parse(JSON.stringify(published))).toEqual(published)
    expect(ajv().validateSchema(published)).toBe(true)
    expect(() => ajv().compile(published)).not.toThrow()
  })

  test('describes every key', () => {
    const properties = published.properties as Record<string, { description?: string }>
    expect(Object.entries(properties).filter(([, { description }]) => !description)).toEqual([])
  })

  test('accepts exactly what Berth accepts', () => {
    const accepts = ajv().compile(published)
    const names = Object.keys(published.properties as object)
    const value: fc.Arbitrary<unknown> = fc.oneof(
      fc.constantFrom('none', 'egress', '5m', '4GiB', 'auto', 'optional', '3.12', 'x', ''),
      fc.integer({ min: -2, max: 70_000 }),
      fc.boolean(),
      fc.double({ noNaN: true }),
      fc.array(fc.constantFrom('10.0.0.0/8', 'a', 1)),
      fc.dictionary(
        fc.constantFrom('min', 'max', 'count', 'memory', 'install', 'limit', 'a b', 'config', 'm'),
        fc.constantFrom('1m', 1, true, {}, null),
      ),
    )
    const key = fc.oneof(fc.constantFrom(...names), fc.constantFrom('typo', 'constructor'))
    fc.assert(
      fc.property(fc.dictionary(key, value, { noNullPrototype: true }), (document) => {
        const problems: string[] = []
        validate(checked, document, (path, message) => problems.push(`${path.join('.')}: ${message}`))
        expect(problems.length === 0).toBe(Check(checked, document))
        expect(accepts(document)).toBe(Check(checked, document))
      }),
      { numRuns: 300 },
    )
  })
})

test('the documented berth.yaml fits', () => {
  const document = parse(`listen: 127.0.0.1:8080
engine: auto
modules: ./modules
data: ./.berth
auth: none
models: { minilm: { module: embeddings, max_simul_users: 4 } }
services: { old: { service: embeddings, offload_seconds: 60 } }
shutdown: keep
module_settings:
  embeddings: { config: {}, scale: {min: 0, max: 2}, gpu: {count: 1}, env: {HF_TOKEN: x}, idle_ttl: 10m }`)
  expect(ajv().validate(configSchema, document)).toBe(true)
})

test('the documented module.yaml, with its defaults, fits', () => {
  const document = parse(`id: m
version: 1.2.3
description: x
image: python:3.13
python: "3.12"
gpu: { count: 1, memory: 8GiB }
resources: { cpus: 2, memory: 4GiB }
network: egress
scale: { min: 0, max: 4, target_inflight: 2 }
concurrency: 2
idle_ttl: 10m
stop_ttl: 1h
calls: [other]
on_disconnect: drain
timeouts: { install: 30m, start: 60s, load: 15m, infer: none, first_chunk: 5m, between_chunks: 2m, call: 60s, drain: 30s }
queue: { limit: 64, timeout: 60s }
requirements: [numpy]
serves: [chat, embedding]
models: { a: { x: 1 } }
dependencies: { other: ^1.0.0 }`)
  expect(ajv().validate(manifestSchema, document)).toBe(true)
})

test('the schema calls a duration or a size what is read as one', () => {
  const text = fc.oneof(
    fc.string({ unit: fc.constantFrom('1', '5', '0', '.', 's', 'm', 'h', 'd', 'ms', 'none', ' '), maxLength: 5 }),
    fc.string({ unit: fc.constantFrom('1', '7', '.', 'K', 'M', 'g', 'i', 'B', 'b', ' '), maxLength: 5 }),
  )
  const accepts = (document: unknown) => Check(ConfigDocument, document)
  fc.assert(
    fc.property(text, (written) => {
      fc.pre(written === written.trim())
      expect(accepts({ queue: { timeout: written } })).toBe(parseDuration(written) !== undefined)
      if (accepts({ body_limit: written })) expect(parseBytes(written)).toBeDefined()
    }),
    { numRuns: 500 },
  )
})
