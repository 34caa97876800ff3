import { describe, expect, it } from 'vitest'
import type { ModuleManifest } from '../../../orchestrator/domain/manifest.ts'
import { defineModule, workloadSpec, workloadToken } from '../../../orchestrator/lifecycle/workload.ts'
import { testManifest, testModel } from '../../support/definitions.ts'

const instance = { id: 'one', secret: 'secret' }
const hashOf = (manifest: Partial<ModuleManifest> = {}, configuration = {}) =>
  defineModule(instance, testManifest(manifest), new Map([['m', testModel('m', { configuration })]])).specHash

describe('what a container is made of', () => {
  it('has the same hash for the same definition, whatever its models are configured with', () => {
    expect(hashOf()).toBe(hashOf())
    expect(hashOf({}, { size: 1 })).toBe(hashOf({}, { size: 2 }))
    expect(hashOf({ idleTtlMs: 5, stopTtlMs: 6, queue: { limit: 1, timeoutMs: 1 }, description: 'x' })).toBe(hashOf())
  })

  it.each<[string, Partial<ModuleManifest>]>([
    ['its files', { contentHash: 'edited' }],
    ['its requirements', { requirements: { extra: ['numpy'], hash: 'other', empty: false } }],
    ['its variables', { env: { A: '1' } }],
    ['its limits', { resources: { memoryBytes: 1_000 } }],
    ['its network', { network: 'egress' }],
    ['its GPU', { gpu: { count: 1, optional: true } }],
    ['its configuration', { configuration: { a: 1 } }],
    ['its base', { base: { kind: 'image', image: 'python:3.12' } }],
    ['what it may call', { calls: ['other'] }],
  ])('has another hash when %s changes', (_what, change) => {
    expect(hashOf(change)).not.toBe(hashOf())
  })

  it('has a token of its own for each generation, which can be computed again', () => {
    const definition = defineModule(instance, testManifest(), new Map())
    const spec = (generation: number) => workloadSpec(instance, definition, { id: 'mod-0', generation }, [])
    expect(spec(1).token).toBe(workloadToken(instance, { id: 'mod-0', generation: 1 }))
    expect(spec(1).token).not.toBe(spec(2).token)
    expect(spec(1).token).not.toBe(workloadToken({ id: 'two', secret: 'secret' }, { id: 'mod-0', generation: 1 }))
    expect(spec(1).token).not.toBe(workloadToken({ id: 'one', secret: 'other' }, { id: 'mod-0', generation: 1 }))
    expect(spec(1).specHash).toBe(definition.specHash)
  })
})
