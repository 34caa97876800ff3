import { chmodSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type { CatalogEntry } from '../../../orchestrator/catalog/catalog.ts'
import { type CatalogWatcherOptions, createCatalogWatcher } from '../../../orchestrator/catalog/watcher.ts'
import type { BerthError } from '../../../orchestrator/domain/errors.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'

const limit = { timeout: 8_000, interval: 20 }

async function watching(modulesFolder: string, more: Partial<CatalogWatcherOptions> = {}) {
  const lists: (readonly CatalogEntry[])[] = []
  const problems: BerthError[] = []
  const watcher = createCatalogWatcher({
    modulesFolder,
    extraFolders: [],
    settings: {},
    defaults: {},
    onChange: (entries) => lists.push(entries),
    onProblem: (error) => problems.push(error),
    settleMs: 100,
    rescanMs: 200,
    ...more,
  })
  onTestFinished(() => watcher.close())
  await watcher.start()
  const shown = () => watcher.entries().map((entry) => `${entry.id} ${entry.error?.code ?? 'ok'}`)
  return {
    watcher,
    lists,
    problems,
    shown,
    until: (expected: readonly string[]) => vi.waitFor(() => expect(shown()).toEqual(expected), limit),
  }
}

describe('the list of modules', () => {
  test('follows folders that come, change, break, are mended, renamed and removed', async () => {
    const modules = tempFolder({ 'a/service.py': '' })
    const { watcher, shown, until } = await watching(modules)
    expect(shown()).toEqual(['a ok'])
    writeFiles(modules, { 'b/service.py': '' })
    await until(['a ok', 'b ok'])
    const before = watcher.entries()[1]?.manifest?.contentHash
    writeFiles(modules, { 'b/deep/down/lib.py': 'x = 1' })
    await vi.waitFor(() => expect(watcher.entries()[1]?.manifest?.contentHash).not.toBe(before), limit)
    writeFiles(modules, { 'b/module.yaml': 'gpus: 1' })
    await until(['a ok', 'b MANIFEST_INVALID'])
    writeFiles(modules, { 'b/module.yaml': 'gpu: 1' })
    await until(['a ok', 'b ok'])
    renameSync(join(modules, 'b'), join(modules, 'c'))
    await until(['a ok', 'c ok'])
    rmSync(join(modules, 'a'), { recursive: true })
    await until(['c ok'])
  })

  test('leaves out plain files, hidden names and what tools leave behind', async () => {
    const modules = tempFolder({
      'a/service.py': '',
      'file.py': '',
      '.hidden/service.py': '',
      '__pycache__/service.py': '',
      'node_modules/service.py': '',
    })
    expect((await watching(modules)).shown()).toEqual(['a ok'])
  })

  test('has a broken folder with its error beside the others', async () => {
    const modules = tempFolder({ 'a/service.py': '', 'my module/service.py': '', 'empty/readme.md': '' })
    expect((await watching(modules)).shown()).toEqual(['a ok', 'empty MANIFEST_INVALID', 'my module MANIFEST_INVALID'])
  })

  test('takes a link to a folder for a folder', async () => {
    const modules = tempFolder()
    const elsewhere = tempFolder({ 'service.py': '' })
    const { until, watcher } = await watching(modules)
    symlinkSync(elsewhere, join(modules, 'linked'))
    await until(['linked ok'])
    const before = watcher.entries()[0]?.manifest?.contentHash
    writeFiles(elsewhere, { 'service.py': 'x = 1' })
    await vi.waitFor(() => expect(watcher.entries()[0]?.manifest?.contentHash).not.toBe(before), limit)
  })

  test('is told once for edits in quick succession', async () => {
    const modules = tempFolder({ 'a/service.py': '' })
    const { lists, watcher } = await watching(modules, { settleMs: 400 })
    for (let i = 0; i < 20; i += 1) writeFileSync(join(modules, 'a/service.py'), `x = ${i}`)
    await vi.waitFor(() => expect(lists.length).toBe(2), limit)
    const settled = watcher.entries()
    await watcher.rescan()
    expect(watcher.entries()).toBe(settled)
    expect(lists.length).toBe(2)
  })

  test('does not change for a touch that changes nothing', async () => {
    const modules = tempFolder({ 'a/service.py': 'x = 1' })
    const { lists, watcher } = await watching(modules)
    chmodSync(join(modules, 'a/service.py'), 0o600)
    writeFileSync(join(modules, 'a/service.py'), 'x = 1')
    await watcher.rescan()
    expect(lists).toHaveLength(1)
  })
})

describe('ids', () => {
  test('claimed by two folders: the one of that name keeps it, the other is listed with an error that names both', async () => {
    const modules = tempFolder({ 'a/service.py': '', 'a/module.yaml': 'id: z', 'z/service.py': '' })
    const { shown, watcher } = await watching(modules)
    expect(shown()).toEqual(['a MANIFEST_INVALID', 'z ok'])
    expect(watcher.entries()[0]?.error?.details.folders).toEqual([join(modules, 'z'), join(modules, 'a')])
  })

  test('claimed by a newcomer: the one that has it keeps it', async () => {
    const modules = tempFolder({ 'k/service.py': '', 'k/module.yaml': 'id: z' })
    const { until } = await watching(modules)
    writeFiles(modules, { 'a/service.py': '', 'a/module.yaml': 'id: z' })
    await until(['a MANIFEST_INVALID', 'z ok'])
  })

  test('stay with the folder while its module.yaml is broken', async () => {
    const modules = tempFolder({ 'a/service.py': '', 'a/module.yaml': 'id: z' })
    const { until } = await watching(modules)
    writeFiles(modules, { 'a/module.yaml': 'id: [' })
    await until(['z MANIFEST_INVALID'])
  })
})

describe('the modules folder', () => {
  test('is made when it is missing', async () => {
    const modules = join(tempFolder(), 'not/there')
    const { until } = await watching(modules)
    writeFiles(modules, { 'a/service.py': '' })
    await until(['a ok'])
  })

  test('that is a file is a problem, told once, and mended by making it a folder', async () => {
    const place = tempFolder({ modules: 'a file' })
    const { problems, shown, until } = await watching(join(place, 'modules'))
    await vi.waitFor(() => expect(problems).toHaveLength(1), limit)
    expect(problems[0]).toMatchObject({ code: 'CONFIG_INVALID', details: { field: 'modules' } })
    expect(shown()).toEqual([])
    rmSync(join(place, 'modules'))
    writeFiles(place, { 'modules/a/service.py': '' })
    await until(['a ok'])
    expect(problems).toHaveLength(1)
  })
})

test('a link to a folder elsewhere is neither searched nor watched', async () => {
  const modules = tempFolder({ 'a/service.py': '' })
  symlinkSync('/', join(modules, 'a/everything'))
  const { problems, until } = await watching(modules)
  writeFiles(modules, { 'b/service.py': '' })
  await until(['a ok', 'b ok'])
  expect(problems).toEqual([])
})

describe('updates', () => {
  test('settings apply to the module that they name', async () => {
    const modules = tempFolder({ 'a/service.py': '', 'b/service.py': '' })
    const { watcher } = await watching(modules)
    const [a, b] = watcher.entries()
    await watcher.update({ settings: { a: { env: { TOKEN: 't' } } } })
    expect(watcher.entries()[0]?.manifest?.env).toEqual({ TOKEN: 't' })
    expect(watcher.entries()[0]?.manifest?.contentHash).not.toBe(a?.manifest?.contentHash)
    expect(watcher.entries()[1]).toEqual(b)
  })

  test('folders elsewhere come and go by their path; one that is not there is listed with an error', async () => {
    const elsewhere = tempFolder({ 'x/service.py': '' })
    const { watcher, until } = await watching(tempFolder())
    await watcher.update({ extraFolders: [join(elsewhere, 'x'), join(elsewhere, 'y')] })
    await until(['x ok', 'y MODULE_NOT_FOUND'])
    writeFiles(elsewhere, { 'y/service.py': '' })
    await until(['x ok', 'y ok'])
    await watcher.update({ extraFolders: [] })
    await until([])
  })
})

test('after close nothing is told any more', async () => {
  const modules = tempFolder()
  const { watcher, lists } = await watching(modules)
  await watcher.close()
  writeFiles(modules, { 'a/service.py': '' })
  await watcher.rescan()
  expect(lists).toHaveLength(1)
})
