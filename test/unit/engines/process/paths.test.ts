import { chmod, mkdir, mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  makeRunDirectory,
  moduleData,
  processPaths,
  socketPath,
} from '../../../../orchestrator/engines/process/paths.ts'

describe('paths of the embedded engine', () => {
  let folder: string
  const made: string[] = []
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-paths-'))
    made.push(folder)
  })
  afterEach(async () => {
    for (const each of made.splice(0)) await rm(each, { recursive: true, force: true })
  })

  it('keep sockets in the data folder where the path is short enough', async () => {
    expect(await makeRunDirectory(folder, undefined)).toBe(join(folder, 'run'))
  })

  it('keep sockets in a private folder with a short path otherwise, the same every time', async () => {
    const long = join(folder, 'x'.repeat(120))
    const run = await makeRunDirectory(long, folder)
    made.push(run)
    expect(await makeRunDirectory(long, folder)).toBe(run)
    expect((await stat(run)).mode & 0o777).toBe(0o700)
    expect(Buffer.byteLength(socketPath(run, 'a-module-with-a-long-name-0', 12_345))).toBeLessThanOrEqual(96)
  })

  it('never use a folder that others could write to', async () => {
    const long = join(folder, 'x'.repeat(120))
    const taken = await makeRunDirectory(long, folder)
    await rm(taken, { recursive: true })
    await mkdir(taken, { mode: 0o777 })
    made.push(taken)
    await chmod(taken, 0o777)
    const run = await makeRunDirectory(long, folder)
    made.push(run)
    expect(run).not.toBe(taken)
    expect((await stat(run)).mode & 0o077).toBe(0)
  })

  it('keep modules with unusual ids inside the data folder', () => {
    const paths = processPaths('/data')
    expect(moduleData(paths, 'embeddings')).toBe('/data/modules/embeddings')
    for (const id of ['..', '../../etc', 'a/b', '.hidden']) {
      expect(moduleData(paths, id)).toMatch(/^\/data\/modules\/id-[0-9a-f]{12}$/)
    }
  })
})
