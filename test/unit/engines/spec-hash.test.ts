import { describe, expect, it } from 'vitest'
import { specHash } from '../../../orchestrator/engines/spec-hash.ts'
import { stableJson } from '../../../orchestrator/engines/stable-json.ts'
import { engineSpec } from '../../support/engine-spec.ts'

describe('the hash of a workload', () => {
  const spec = engineSpec('instance')

  it('does not depend on generation, token and an earlier hash', () => {
    expect(specHash({ ...spec, generation: 7, token: 'another', specHash: 'x' } as typeof spec)).toBe(specHash(spec))
  })

  it('changes with content at any depth', () => {
    const changed = [
      { ...spec, env: { A: '1' } },
      { ...spec, runner: { ...spec.runner, drainMs: 7 } },
      { ...spec, runner: { ...spec.runner, drainMs: Number.POSITIVE_INFINITY } },
      { ...spec, runner: { ...spec.runner, models: { probe: { a: { b: 1 } } } } },
      { ...spec, network: 'egress' as const },
    ].map((each) => specHash(each))
    expect(new Set([...changed, specHash(spec)]).size).toBe(changed.length + 1)
  })
})

describe('stable JSON', () => {
  it('orders keys at every depth and leaves lists as they are', () => {
    expect(stableJson({ b: [{ d: 1, c: 2 }, 1], a: undefined })).toBe('{"b":[{"c":2,"d":1},1]}')
    expect(stableJson({ a: Number.POSITIVE_INFINITY })).not.toBe(stableJson({ a: null }))
  })
})
