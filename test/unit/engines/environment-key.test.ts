import { describe, expect, it } from 'vitest'
import { environmentKey, indexOptions } from '../../../orchestrator/engines/environment-key.ts'

const parts = {
  requirements: 'abc',
  base: 'sha256:123',
  python: '3.12',
  architecture: 'x64',
  index: { PIP_INDEX_URL: 'https://index.example/simple', PIP_PRE: '1' },
  gpu: 'NO_GPU',
} as const

describe('the key of an environment', () => {
  it('is the same for the same parts in another order', () => {
    const reordered = {
      gpu: parts.gpu,
      index: { PIP_PRE: '1', PIP_INDEX_URL: 'https://index.example/simple' },
      architecture: parts.architecture,
      python: parts.python,
      base: parts.base,
      requirements: parts.requirements,
    }
    expect(environmentKey(reordered)).toBe(environmentKey(parts))
    expect(environmentKey(parts)).toMatch(/^[0-9a-f]{24}$/)
  })

  it('changes with every part', () => {
    const changed = [
      { requirements: 'abd' },
      { base: 'sha256:124' },
      { python: '3.13' },
      { python: undefined },
      { architecture: 'arm64' },
      { index: {} },
      { gpu: 'NVIDIA' as const },
    ].map((change) => environmentKey({ ...parts, ...change }))
    expect(new Set([...changed, environmentKey(parts)]).size).toBe(changed.length + 1)
  })

  it('does not change with the credentials of an index', () => {
    const withIndex = (url: string) => environmentKey({ ...parts, index: { PIP_INDEX_URL: url } })
    expect(withIndex('https://me:old@index.example/simple')).toBe(withIndex('https://me:new@index.example/simple'))
    expect(withIndex('https://me:old@index.example/simple')).toBe(withIndex('https://index.example/simple'))
    expect(withIndex('https://other.example/simple')).not.toBe(withIndex('https://index.example/simple'))
  })
})

describe('index options', () => {
  it('are the variables that decide where packages come from, and no others', () => {
    expect(indexOptions({ PIP_INDEX_URL: 'https://a', UV_NO_INDEX: '', PIP_CACHE_DIR: '/c', HOME: '/root' })).toEqual({
      PIP_INDEX_URL: 'https://a',
    })
  })
})
