import fc from 'fast-check'
import { expect, test } from 'vitest'
import { editDistance, nearest } from '../../../orchestrator/config/nearest.ts'

const keys = ['module', 'models', 'max_simul_users', 'idle_ttl', 'offload_seconds', 'gpu']

test.each([
  ['modul', 'module'],
  ['modelz', 'models'],
  ['maxSimulUsers', 'max_simul_users'],
  ['MAX-SIMUL-USERS', 'max_simul_users'],
  ['idlettl', 'idle_ttl'],
  ['gpus', 'gpu'],
])('"%s" was meant to be "%s"', (typo, key) => {
  expect(nearest(typo, keys)).toBe(key)
})

test('a name that resembles no key has no nearest one', () => {
  expect(nearest('banana', keys)).toBeUndefined()
})

test('a key with one letter changed, lost, doubled or swapped still leads to that key or one as near', () => {
  const edits = fc.record({
    key: fc.constantFrom(...keys),
    at: fc.nat(20),
    kind: fc.constantFrom('lose', 'double', 'change', 'swap'),
  })
  fc.assert(
    fc.property(edits, ({ key, at, kind }) => {
      const i = at % (key.length - 1)
      const [before, here, after] = [key.slice(0, i), key[i] ?? '', key.slice(i + 1)]
      const typo = {
        lose: before + after,
        double: before + here + here + after,
        change: `${before}x${after}`,
        swap: before + (after[0] ?? '') + here + after.slice(1),
      }[kind]
      const found = nearest(typo, keys)
      expect(found).toBeDefined()
      expect(editDistance(typo, found ?? '')).toBeLessThanOrEqual(editDistance(typo, key))
    }),
  )
})

test('edit distance is a metric, and 0 only for equal texts', () => {
  const word = fc.string({ maxLength: 12 })
  fc.assert(
    fc.property(word, word, (a, b) => {
      expect(editDistance(a, b)).toBe(editDistance(b, a))
      expect(editDistance(a, b) === 0).toBe(a === b)
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length))
    }),
  )
})
