import { describe, expect, it } from 'vitest'
import type { CatalogEntry } from '../../../orchestrator/catalog/catalog.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { moduleChanges } from '../../../orchestrator/reconcile/module-changes.ts'
import type { DesiredState } from '../../../orchestrator/reconcile/supervisor.ts'
import { testManifest, testModel } from '../../support/definitions.ts'

type Wanted = Pick<DesiredState, 'modules' | 'models' | 'disabled' | 'scales'>

const source = (id: string) => ({ kind: 'folder', path: `/modules/${id}` }) as const
const good = (id: string, more: Parameters<typeof testManifest>[0] = {}): CatalogEntry => ({
  id,
  source: source(id),
  manifest: testManifest({ id, ...more }),
})
const bad = (id: string, message: string): CatalogEntry => ({
  id,
  source: source(id),
  error: new BerthError('MANIFEST_INVALID', message),
})

function wanted(modules: readonly CatalogEntry[], more: Partial<Wanted> = {}): Wanted {
  return { modules, models: new Map(), disabled: new Set(), scales: new Map(), ...more }
}

/** `module to: cause` */
function told(before: Wanted, after: Wanted): string[] {
  return moduleChanges(before, after).map(({ module, from, to, cause }) =>
    [module, ...(from === undefined ? [] : [`${from} ->`]), `${to}:`, cause].join(' '),
  )
}

describe('what becomes of modules', () => {
  it('one that appears and one that goes', () => {
    expect(told(wanted([good('a')]), wanted([good('b')]))).toEqual([
      'a removed: the folder /modules/a is no longer there',
      'b added: the folder /modules/b is there',
    ])
  })

  it('nothing, where nothing has changed', () => {
    const state = wanted([good('a'), bad('b', 'no')], { models: new Map([['m', testModel('m', { module: 'a' })]]) })
    const same = wanted([good('a'), bad('b', 'no')], { models: new Map([['m', testModel('m', { module: 'a' })]]) })
    expect(told(state, same)).toEqual([])
  })

  it('a bad edit, another one, and its mending', () => {
    const states = [good('a'), bad('a', 'line 3'), bad('a', 'line 4'), good('a')].map((entry) => wanted([entry]))
    expect(states.slice(1).flatMap((state, index) => told(states[index] ?? wanted([]), state))).toEqual([
      'a broken: line 3',
      'a broken: line 4',
      'a mended: the folder /modules/a can be used again',
    ])
  })

  it('one that is broken from the start is there, and broken', () => {
    expect(told(wanted([]), wanted([bad('a', 'no name')]))).toEqual([
      'a added: the folder /modules/a is there',
      'a broken: no name',
    ])
  })

  it('other files, other models', () => {
    const before = wanted([good('a')])
    expect(told(before, wanted([good('a', { version: '2.0.0' })]))).toEqual([
      'a changed: its files or settings have changed',
    ])
    expect(told(before, wanted([good('a')], { models: new Map([['m', testModel('m', { module: 'a' })]]) }))).toEqual([
      'a changed: its models have changed',
    ])
  })

  it('a scale that somebody asks for', () => {
    const two = wanted([good('a')], { scales: new Map([['a', { min: 2, max: 2 }]]) })
    expect(moduleChanges(wanted([good('a')]), two)).toEqual([
      { type: 'scale', module: 'a', from: 'default', to: '2..2', cause: 'it was asked for' },
    ])
    expect(told(two, wanted([good('a')]))).toEqual(['a 2..2 -> default: it was asked for'])
    expect(told(two, two)).toEqual([])
  })

  it('switched off and on', () => {
    const on = wanted([good('a')])
    const off = wanted([good('a')], { disabled: new Set(['a']) })
    expect(told(on, off)).toEqual(['a enabled -> disabled: it was disabled'])
    expect(told(off, on)).toEqual(['a disabled -> enabled: it was enabled'])
    expect(told(wanted([]), off)).toEqual([
      'a added: the folder /modules/a is there',
      'a enabled -> disabled: it had been disabled before',
    ])
    expect(told(off, wanted([]))).toEqual(['a removed: the folder /modules/a is no longer there'])
  })
})
