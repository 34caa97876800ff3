import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { createScanner } from '../../../orchestrator/catalog/scanner.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'

/** Scans at times that the test chooses; answers what is listed, with `...` while something still moves. */
function scanning(modulesFolder: string) {
  const scanner = createScanner({ settleMs: 300, settleLimitMs: 5_000 })
  const input = { modulesFolder, extraFolders: [], settings: {}, defaults: {} }
  return async (now: number, settled = false) => {
    const { entries, unsettled } = await scanner.scan(input, now, settled)
    return [...entries.map(({ id, error }) => (error === undefined ? id : `${id} !`)), ...(unsettled ? ['...'] : [])]
  }
}

describe('a folder that is being copied', () => {
  test('is listed once it has rested', async () => {
    const modules = tempFolder({ 'a/part-1': '' })
    const at = scanning(modules)
    expect(await at(0)).toEqual(['...'])
    writeFiles(modules, { 'a/part-2': '' })
    expect(await at(250)).toEqual(['...'])
    writeFiles(modules, { 'a/service.py': '' })
    expect(await at(500)).toEqual(['...'])
    expect(await at(799)).toEqual(['...'])
    expect(await at(800)).toEqual(['a'])
  })

  test('is listed after a while even when it never rests', async () => {
    const modules = tempFolder({ 'a/service.py': '' })
    const at = scanning(modules)
    for (let now = 0; now < 5_000; now += 200) {
      writeFiles(modules, { 'a/log': String(now) })
      expect(await at(now)).toEqual(['...'])
    }
    writeFiles(modules, { 'a/log': 'last' })
    expect(await at(5_000)).toEqual(['a'])
  })

  test('does not hold up the others', async () => {
    const modules = tempFolder({ 'a/service.py': '', 'b/service.py': '' })
    const at = scanning(modules)
    await at(0)
    writeFiles(modules, { 'b/lib.py': '' })
    expect(await at(300)).toEqual(['a', '...'])
  })

  test('is taken as it is at the start', async () => {
    expect(await scanning(tempFolder({ 'a/service.py': '' }))(0, true)).toEqual(['a'])
  })
})

test('a folder that is named by its path is there at once, and at once no longer', async () => {
  const scanner = createScanner({ settleMs: 300, settleLimitMs: 5_000 })
  const path = join(tempFolder({ 'x/service.py': '' }), 'x')
  const input = { modulesFolder: tempFolder(), extraFolders: [path], settings: {}, defaults: {} }
  expect((await scanner.scan(input, 0, false)).entries.map(({ id }) => id)).toEqual(['x'])
  expect(await scanner.scan({ ...input, extraFolders: [] }, 1, false)).toEqual({ entries: [], unsettled: false })
})

test('an edit keeps the entry as it was until the folder rests', async () => {
  const modules = tempFolder({ 'a/service.py': '' })
  const at = scanning(modules)
  await at(0, true)
  writeFiles(modules, { 'a/module.yaml': 'gpus: 1' })
  expect(await at(100)).toEqual(['a', '...'])
  expect(await at(400)).toEqual(['a !'])
})

test('a folder that is taken away and put back at once was never gone', async () => {
  const modules = tempFolder({ 'a/service.py': '' })
  const at = scanning(modules)
  await at(0, true)
  rmSync(join(modules, 'a'), { recursive: true })
  expect(await at(100)).toEqual(['a', '...'])
  writeFiles(modules, { 'a/service.py': '' })
  expect(await at(200)).toEqual(['a', '...'])
  expect(await at(500)).toEqual(['a'])
})

test('a folder that stays away is gone', async () => {
  const modules = tempFolder({ 'a/service.py': '' })
  const at = scanning(modules)
  await at(0, true)
  rmSync(join(modules, 'a'), { recursive: true })
  await at(100)
  expect(await at(400)).toEqual([])
})
