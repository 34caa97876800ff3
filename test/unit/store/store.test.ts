import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { migrations } from '../../../orchestrator/store/migrations.ts'
import { createStore, type Store } from '../../../orchestrator/store/store.ts'
import { caught } from '../../support/caught.ts'
import { tempFolder } from '../../support/temp-folder.ts'

function open(folder: string): Store {
  const store = createStore(folder)
  onTestFinished(() => store.close())
  return store
}

/** What a restart finds. */
function reopened(store: Store, folder: string): Store {
  store.close()
  return open(folder)
}

const key = {
  name: 'admin',
  hash: 'ab'.repeat(32),
  scopes: ['admin', 'infer'],
  priority: 'normal',
  createdAt: '2025-01-01T00:00:00.000Z',
} as const

describe('what survives a restart', () => {
  test('the id and the secret of the instance, made once', () => {
    const folder = join(tempFolder(), 'data')
    const first = open(folder)
    expect(first.instance.id).toMatch(/^[a-z2-7]{12}$/)
    expect(first.instance.secret).toMatch(/^[0-9a-f]{64}$/)
    expect(reopened(first, folder).instance).toEqual(first.instance)
    expect(open(join(tempFolder(), 'other')).instance).not.toEqual(first.instance)
  })

  test('added modules, in order', () => {
    const folder = tempFolder()
    const store = open(folder)
    const z = {
      id: 'z',
      source: { kind: 'image', reference: 'some/image:1' },
      addedAt: '2025-01-01T00:00:00Z',
      addedBy: 'admin',
    } as const
    const a = {
      id: 'a',
      source: { kind: 'folder', path: '/srv/a' },
      addedAt: '2025-01-02T00:00:00Z',
      addedBy: '127.0.0.1',
    } as const
    store.modules.put(z)
    store.modules.put(a)
    store.modules.put({ ...z, source: { kind: 'image', reference: 'some/image:2' } })
    const after = reopened(store, folder)
    expect(after.modules.list()).toEqual([{ ...z, source: { kind: 'image', reference: 'some/image:2' } }, a])
    expect(after.modules.remove('z')).toBe(true)
    expect(after.modules.remove('z')).toBe(false)
    expect(reopened(after, folder).modules.list()).toEqual([a])
  })

  test('removals, until they are done or the module is added again', () => {
    const folder = tempFolder()
    const store = open(folder)
    const module = (id: string) => ({
      id,
      source: { kind: 'folder' as const, path: `/srv/${id}` },
      addedAt: '2025-01-01T00:00:00Z',
      addedBy: 'admin',
    })
    for (const id of ['a', 'b', 'c']) {
      store.modules.put(module(id))
      store.modules.remove(id)
    }
    store.modules.remove('never-there')
    store.removals.done('b')
    store.modules.put(module('c'))
    expect(reopened(store, folder).removals.list()).toEqual(['a'])
  })

  test('disabled modules', () => {
    const folder = tempFolder()
    const store = open(folder)
    store.disabled.set('a', true)
    store.disabled.set('b', true)
    store.disabled.set('b', true)
    store.disabled.set('a', false)
    expect(reopened(store, folder).disabled.list()).toEqual(new Set(['b']))
  })

  test('scales, until they are taken back', () => {
    const folder = tempFolder()
    const store = open(folder)
    store.scales.set('a', { min: 1, max: 4 })
    store.scales.set('b', { min: 0, max: 0 })
    store.scales.set('b', { min: 2, max: 2 })
    store.scales.set('a', undefined)
    expect([...reopened(store, folder).scales.list()]).toEqual([['b', { min: 2, max: 2 }]])
  })

  test.each([1, 2, 3, 4])('what a Berth of version %i of the store has written', (version) => {
    const folder = tempFolder()
    const db = new DatabaseSync(join(folder, 'berth.db'))
    for (const statements of migrations.slice(0, version)) db.exec(statements)
    db.exec(`PRAGMA user_version = ${version};
      INSERT INTO disabled (id) VALUES ('a');
      INSERT INTO keys (name, hash, scopes, created_at) VALUES ('admin', '${key.hash}', 'admin infer', '${key.createdAt}')`)
    db.close()
    const store = open(folder)
    store.scales.set('a', { min: 1, max: 1 })
    expect([store.disabled.list(), store.scales.list().size]).toEqual([new Set(['a']), 1])
    expect(store.keys.find(key.hash)).toEqual(key)
  })

  test('keys, by their hash', () => {
    const folder = tempFolder()
    const store = open(folder)
    store.keys.put(key)
    store.keys.put({ ...key, hash: 'cd'.repeat(32) })
    const after = reopened(store, folder)
    expect(after.keys.find(key.hash)).toBeUndefined()
    expect(after.keys.find('cd'.repeat(32))).toEqual({ ...key, hash: 'cd'.repeat(32) })
    const limited = { ...key, name: 'ci', hash: 'ef'.repeat(32), scopes: ['infer'], priority: 'low' } as const
    after.keys.put({ ...limited, models: ['a b', 'c,"d'], expiresAt: '2030-01-01T00:00:00.000Z' })
    const again = reopened(after, folder)
    expect(again.keys.get('ci')).toEqual({ ...limited, models: ['a b', 'c,"d'], expiresAt: '2030-01-01T00:00:00.000Z' })
    again.keys.put(limited)
    const last = reopened(again, folder)
    expect(last.keys.list()).toEqual([{ ...key, hash: 'cd'.repeat(32) }, limited])
    expect(last.keys.remove('ci')).toBe(true)
    expect(last.keys.remove('admin')).toBe(true)
    expect(last.keys.remove('admin')).toBe(false)
    expect(reopened(last, folder).keys.list()).toEqual([])
  })

  test('generations: no replica ever gets one twice', () => {
    const folder = tempFolder()
    const store = open(folder)
    expect([store.nextGeneration('a-0'), store.nextGeneration('a-0'), store.nextGeneration('b-0')]).toEqual([1, 2, 1])
    expect(reopened(store, folder).nextGeneration('a-0')).toBe(3)
  })

  test('what was configured for loaded models, by generation', () => {
    const folder = tempFolder()
    const store = open(folder)
    store.loaded.put('a-0', 1, 'm', 'old')
    store.loaded.put('a-0', 2, 'm', 'first')
    store.loaded.put('a-0', 2, 'm', 'second')
    store.loaded.put('a-0', 2, 'n', 'n')
    store.loaded.put('b-0', 2, 'm', 'other')
    store.loaded.remove('a-0', 2, 'n')
    const after = reopened(store, folder)
    expect([...after.loaded.of('a-0', 2)]).toEqual([['m', 'second']])
    after.loaded.clear('a-0', 2)
    expect([after.loaded.of('a-0', 1).size, after.loaded.of('a-0', 2).size]).toEqual([0, 0])
    expect([...after.loaded.of('b-0', 2)]).toEqual([['m', 'other']])
  })
})

test('everything is private to the user', () => {
  const folder = join(tempFolder(), 'data')
  open(folder).keys.put(key)
  expect(statSync(folder).mode & 0o777).toBe(0o700)
  for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).mode & 0o077).toBe(0)
})

test('a clean end leaves one whole file and can be told twice', () => {
  const folder = tempFolder()
  const store = open(folder)
  store.disabled.set('a', true)
  store.check()
  store.close()
  store.close()
  expect(existsSync(join(folder, 'berth.db-wal'))).toBe(false)
})

describe('a data folder that can not be used', () => {
  test('because another orchestrator has it', async () => {
    const folder = tempFolder()
    const store = open(folder)
    const error = await caught(() => createStore(folder))
    expect(error).toMatchObject({
      code: 'CONFIG_INVALID',
      details: { field: 'data', file: folder, remedy: expect.any(String) },
    })
    expect(error.message).toContain(`process ${process.pid} on`)
    store.close()
    expect(reopened(store, folder).nextGeneration('a')).toBe(1)
  })

  test('because its database is damaged', async () => {
    const folder = tempFolder({ 'berth.db': 'no database at all '.repeat(500) })
    const error = await caught(() => createStore(folder))
    expect(error.code).toBe('CONFIG_INVALID')
    expect(error.message).toContain(join(folder, 'berth.db'))
    expect(error.details.remedy).toContain('backup')
  })

  test('because its database lost pages', async () => {
    const folder = tempFolder()
    const store = open(folder)
    for (let i = 0; i < 500; i += 1) store.nextGeneration(`replica-${i}`)
    store.close()
    const file = join(folder, 'berth.db')
    const size = statSync(file).size
    const torn = Buffer.alloc(size, 0xff)
    readFileSync(file).copy(torn, 0, 0, 4096)
    writeFileSync(file, torn)
    expect((await caught(() => createStore(folder))).message).toContain('is damaged')
  })

  test('because a newer Berth wrote it', async () => {
    const folder = tempFolder()
    open(folder).close()
    const db = new DatabaseSync(join(folder, 'berth.db'))
    db.exec('PRAGMA user_version = 99')
    db.close()
    expect((await caught(() => createStore(folder))).message).toContain('newer Berth')
  })

  test('because a file stands in its place', async () => {
    const folder = tempFolder({ data: '' })
    expect(await caught(() => createStore(join(folder, 'data')))).toMatchObject({
      code: 'CONFIG_INVALID',
      details: { field: 'data' },
    })
  })
})

test('an orchestrator that is killed leaves the folder free and loses nothing that it had said', async () => {
  const folder = tempFolder()
  const store = new URL('../../../orchestrator/store/store.ts', import.meta.url).href
  const program = `
    const { createStore } = await import(${JSON.stringify(store)})
    const store = createStore(${JSON.stringify(folder)})
    let last = 0
    for (;;) {
      last = store.nextGeneration('a')
      process.stdout.write(last + '\\n')
      await new Promise((resolve) => setImmediate(resolve))
    }`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => {
    child.kill('SIGKILL')
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += String(chunk)
  })
  await vi.waitFor(() => expect(output.split('\n').length).toBeGreaterThan(20), { timeout: 8_000 })
  expect((await caught(() => createStore(folder))).message).toContain(`process ${child.pid}`)
  child.kill('SIGKILL')
  await once(child, 'close')
  const said = Math.max(...output.split('\n').slice(0, -1).map(Number))
  expect(open(folder).nextGeneration('a')).toBeGreaterThan(said)
})
