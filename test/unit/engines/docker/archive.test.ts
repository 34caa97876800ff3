import { truncateSync } from 'node:fs'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { extract } from 'tar-stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { entriesArchive, folderArchive, moduleExclusions } from '../../../../orchestrator/engines/docker/archive.ts'
import { hashTree, moduleContext } from '../../../../orchestrator/engines/docker/build-context.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-archive-'))
})
afterEach(() => rm(folder, { recursive: true }))

async function read(archive: Readable): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const entries = archive.pipe(extract())
  archive.once('error', (error) => entries.destroy(error))
  for await (const entry of entries) {
    const { name, type, mode, uid, linkname } = entry.header
    let size = 0
    for await (const chunk of entry) size += (chunk as Buffer).length
    found[name] = `${type} ${(mode ?? 0).toString(8)} ${uid} ${linkname ?? size}`
  }
  return found
}

describe('a folder’s archive', () => {
  const archive = () => folderArchive(folder, { module: 'm', prefix: 'm', exclude: moduleExclusions })

  it('holds what modules read, owned by root and readable by all', async () => {
    await mkdir(join(folder, 'sub'), { mode: 0o700 })
    await writeFile(join(folder, 'sub', 'large.bin'), Buffer.alloc(200_000), { mode: 0o600 })
    await writeFile(join(folder, 'run.sh'), 'x', { mode: 0o700 })
    await mkdir(join(folder, '.git'))
    await symlink('sub/large.bin', join(folder, 'link'))
    expect(await read(archive())).toEqual({
      m: 'directory 755 0 0',
      'm/link': 'symlink 777 0 sub/large.bin',
      'm/run.sh': 'file 755 0 1',
      'm/sub': 'directory 755 0 0',
      'm/sub/large.bin': 'file 644 0 200000',
    })
  })

  it('fails with the file named where a link leads out', async () => {
    await symlink('../../etc/hosts', join(folder, 'out'))
    await expect(read(archive())).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
      details: { module: 'm', file: 'out' },
    })
  })

  it('fails with the file named, and no word of Docker, where a name is no UTF-8', async () => {
    await writeFile(Buffer.concat([Buffer.from(`${folder}/`), Buffer.from([0x61, 0xff])]), 'x')
    await expect(read(archive())).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
      details: { module: 'm', remedy: expect.stringContaining('no UTF-8') },
    })
  })

  it('fails where the folder is not there', async () => {
    await expect(read(folderArchive(join(folder, 'absent'), { module: 'm', prefix: 'm' }))).rejects.toMatchObject({
      code: 'MODULE_NOT_FOUND',
    })
  })

  it('fails, and does not hang, where a file shrinks while it is sent', async () => {
    const path = join(folder, 'shrinking')
    await writeFile(path, Buffer.alloc(8 * 1024 * 1024))
    const stream = archive()
    let sent = 0
    stream.on('data', (chunk: Buffer) => {
      sent += chunk.length
      if (sent > 100_000) truncateSync(path, 1)
    })
    const reading = read(stream)
    await expect(reading).rejects.toThrow()
  })
})

it('entries may belong to somebody', async () => {
  const entries = [
    { name: 'a', owner: 10001 },
    { name: 'a/b', content: 'text' },
  ]
  expect(await read(entriesArchive(entries))).toEqual({ a: 'directory 755 10001 0', 'a/b': 'file 644 0 4' })
})

describe('the context of a Dockerfile', () => {
  const base = { dockerfile: 'Dockerfile', context: '.' }
  beforeEach(() => writeFile(join(folder, 'Dockerfile'), 'FROM scratch\n'))

  it('has a tag that changes with its content only', async () => {
    await writeFile(join(folder, 'a.txt'), 'one')
    const { tag } = await moduleContext('m', folder, base)
    expect(tag).toMatch(/^berth\/module:[0-9a-f]{16}$/)
    expect((await moduleContext('m', folder, base)).tag).toBe(tag)
    await writeFile(join(folder, 'a.txt'), 'two')
    expect((await moduleContext('m', folder, base)).tag).not.toBe(tag)
  })

  it('leaves out what .dockerignore says, but never the Dockerfile', async () => {
    await writeFile(join(folder, '.dockerignore'), '*\n!kept\n')
    await writeFile(join(folder, 'kept'), 'x')
    await writeFile(join(folder, 'other'), 'x')
    const { archive } = await moduleContext('m', folder, base)
    expect(Object.keys(await read(archive()))).toEqual(['Dockerfile', 'kept'])
  })

  it('may be a folder of its own, which must hold the Dockerfile', async () => {
    await mkdir(join(folder, 'build'))
    await writeFile(join(folder, 'build', 'Other'), 'FROM scratch\n')
    expect(await moduleContext('m', folder, { dockerfile: 'Other', context: 'build' })).toMatchObject({
      dockerfile: 'Other',
    })
    await expect(moduleContext('m', folder, { dockerfile: 'Dockerfile', context: 'build' })).rejects.toMatchObject({
      details: { field: 'dockerfile' },
    })
  })

  it('is hashed with names and links', async () => {
    const hash = () => hashTree(folder, () => false)
    const before = await hash()
    await symlink('a', join(folder, 'link'))
    const linked = await hash()
    await rm(join(folder, 'link'))
    await symlink('b', join(folder, 'link'))
    expect(new Set([before, linked, await hash()]).size).toBe(3)
  })
})
