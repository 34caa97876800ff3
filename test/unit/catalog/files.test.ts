import { truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import {
  createFileDigests,
  listFiles,
  signature,
  TooManyFiles,
  wholeLimit,
} from '../../../orchestrator/catalog/files.ts'
import { tempFolder } from '../../support/temp-folder.ts'

test('files are listed in one order, wherever the file system has them', async () => {
  const folder = tempFolder({ 'b.py': '', 'a/z.py': '', 'a.py': '', 'a/.x': '' })
  expect((await listFiles(folder)).map(({ path }) => path)).toEqual(['a.py', 'a/z.py', 'b.py'])
})

test('any write changes the signature, an equal one not the hash', async () => {
  const folder = tempFolder({ 'a.py': 'one' })
  const digests = createFileDigests()
  const before = await listFiles(folder)
  const hash = await digests.of(folder, before)
  writeFileSync(join(folder, 'a.py'), 'two')
  const after = await listFiles(folder)
  expect(signature(after)).not.toBe(signature(before))
  expect(await digests.of(folder, after)).not.toBe(hash)
  writeFileSync(join(folder, 'a.py'), 'one')
  expect(await digests.of(folder, await listFiles(folder))).toBe(hash)
})

test('a huge file counts by its size, time and ends', async () => {
  const folder = tempFolder({ 'weights.bin': '' })
  const file = join(folder, 'weights.bin')
  const hash = async () => createFileDigests().of(folder, await listFiles(folder))
  truncateSync(file, wholeLimit + 1)
  utimesSync(file, 1, 1)
  const before = await hash()
  expect(await hash()).toBe(before)
  utimesSync(file, 2, 2)
  expect(await hash()).not.toBe(before)
})

test('a folder of more files than a module has is refused', async () => {
  const deep = Array.from({ length: 40 }, (_, index) => `d${index}`).join('/')
  await expect(listFiles(tempFolder({ [`${deep}/x`]: '' }))).rejects.toBeInstanceOf(TooManyFiles)
})
