import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { lstat, readdir, readFile, readlink } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { BerthError } from '../../domain/errors.ts'
import { folderArchive } from './archive.ts'
import { type Ignored, parseIgnore } from './dockerignore.ts'

/** A module's `dockerfile` as something to build: an archive of its context, and a tag that names the content. */
export interface BuildContext {
  readonly tag: string
  readonly dockerfile: string
  archive(): Readable
}

/** `dockerfile` and `context` are relative to `folder`. Rejects with MANIFEST_INVALID when they are not there. */
export async function moduleContext(
  module: string,
  folder: string,
  base: { readonly dockerfile: string; readonly context: string },
): Promise<BuildContext> {
  const root = resolve(folder, base.context)
  const file = await findDockerfile(module, folder, root, base.dockerfile)
  const dockerfile = relative(root, file)
  if (dockerfile.startsWith('..')) {
    throw new BerthError(
      'MANIFEST_INVALID',
      `Module ${module}: ${base.dockerfile} is not inside its context ${base.context}`,
      {
        module,
        field: 'dockerfile',
        remedy: 'move the Dockerfile into the context folder, or name a wider context',
      },
    )
  }
  const ignored = await readIgnore(root, dockerfile)
  const exclude: Ignored = (path, isFolder) => path !== dockerfile && ignored(path, isFolder)
  const hash = await hashTree(root, exclude, createHash('sha256').update(`${dockerfile}\0`))
  return {
    tag: `berth/module:${hash}`,
    dockerfile,
    archive: () => folderArchive(root, { module, prefix: '', exclude }),
  }
}

async function findDockerfile(module: string, folder: string, root: string, named: string): Promise<string> {
  for (const path of [resolve(folder, named), resolve(root, named)]) {
    const found = await lstat(path).catch(() => undefined)
    if (found?.isFile() === true) return path
  }
  throw new BerthError('MANIFEST_INVALID', `Module ${module}: there is no ${named}`, {
    module,
    file: named,
    field: 'dockerfile',
    remedy: 'correct `dockerfile` in module.yaml',
  })
}

async function readIgnore(root: string, dockerfile: string): Promise<Ignored> {
  for (const name of [`${dockerfile}.dockerignore`, '.dockerignore']) {
    const text = await readFile(join(root, name), 'utf8').catch(() => undefined)
    if (text !== undefined) return parseIgnore(text)
  }
  return () => false
}

/** Hash over names, modes and contents, in one order: 16 hexadecimal characters. */
export async function hashTree(root: string, exclude: Ignored, hash = createHash('sha256')): Promise<string> {
  const visit = async (path: string): Promise<void> => {
    const entries = await readdir(join(root, path), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const child = path === '' ? entry.name : `${path}/${entry.name}`
      if (exclude(child, entry.isDirectory())) continue
      const full = join(root, child)
      if (entry.isDirectory()) {
        hash.update(`d ${child}\0`)
        await visit(child)
      } else if (entry.isSymbolicLink()) {
        hash.update(`l ${child}\0${await readlink(full)}\0`)
      } else if (entry.isFile()) {
        const { mode, size } = await lstat(full)
        hash.update(`f ${child}\0${(mode & 0o111) !== 0}\0${size}\0`)
        for await (const chunk of createReadStream(full)) hash.update(chunk as Buffer)
      }
    }
  }
  await visit('')
  return hash.digest('hex').slice(0, 16)
}
