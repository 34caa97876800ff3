import { createHash } from 'node:crypto'
import { open, readdir, readFile, readlink, realpath, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { isIgnored } from './catalog.ts'

/** The files of a folder as a scan sees them: cheap to take, different whenever a file was written. */
export interface FileStamp {
  /** Relative to the folder, with `/`. */
  readonly path: string
  readonly size: number
  /** Times and inode of the file: any write changes it. */
  readonly mark: string
  /** A link that leads nowhere, or to a folder that is not the module's. */
  readonly broken?: true
}

/** More files than this are data, not a module. */
const fileLimit = 20_000
const depthLimit = 32

/** Files larger than this count into a hash by size, time and both ends: weights would be read for minutes. */
export const wholeLimit = 8 * 1024 * 1024
const edge = 64 * 1024

export class TooManyFiles extends Error {
  override readonly name = 'TooManyFiles'
  constructor() {
    super(`it holds more than ${fileLimit} files or ${depthLimit} levels of folders`)
  }
}

/**
 * Every file below the folder, sorted by path; links are followed, though not to folders outside (one may lead to `/`),
 * ignored names left out (catalog.ts). Files that vanish meanwhile are left out. Throws TooManyFiles, or the error of a folder that can't be read.
 */
export async function listFiles(folder: string): Promise<readonly FileStamp[]> {
  const files: FileStamp[] = []
  const root = await realpath(folder)
  const walk = async (path: string, prefix: string, above: readonly string[]): Promise<void> => {
    const real = await realpath(path)
    if (above.includes(real)) return
    if (real !== root && !real.startsWith(root + sep)) {
      files.push({ path: prefix.slice(0, -1), size: 0, mark: `-> ${real}`, broken: true })
      return
    }
    if (above.length > depthLimit) throw new TooManyFiles()
    for (const name of (await readdir(path)).sort()) {
      if (isIgnored(name)) continue
      const relative = prefix + name
      const info = await stat(join(path, name), { bigint: true }).catch(unlessGone)
      if (info === undefined) {
        const target = await readlink(join(path, name)).catch(() => undefined)
        if (target !== undefined) files.push({ path: relative, size: 0, mark: `-> ${target}`, broken: true })
      } else if (info.isDirectory()) {
        await walk(join(path, name), `${relative}/`, [...above, real])
      } else if (info.isFile()) {
        const mark = [info.size, info.mtimeNs, info.ctimeNs, info.ino].join(' ')
        files.push({ path: relative, size: Number(info.size), mark })
      }
      if (files.length > fileLimit) throw new TooManyFiles()
    }
  }
  await walk(folder, '', [])
  return files.sort((a, b) => (a.path < b.path ? -1 : 1))
}

function unlessGone(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ELOOP' || error.code === 'ENOTDIR') return undefined
  throw error
}

/** One text that differs when any stamp does. */
export function signature(files: readonly FileStamp[]): string {
  return sha256(files.map(({ path, mark }) => `${path}\0${mark}`).join('\n'))
}

/** Hashes of files, remembered as long as their stamps stay the same. */
export interface FileDigests {
  /** Hash of paths and contents, whatever their modes. Rejects when a file can't be read. */
  of(folder: string, files: readonly FileStamp[]): Promise<string>
  /** Forgets a folder that is gone. */
  forget(folder: string): void
}

export function createFileDigests(): FileDigests {
  const folders = new Map<string, Map<string, { readonly mark: string; readonly digest: string }>>()
  return {
    async of(folder, files) {
      const known = folders.get(folder) ?? new Map()
      folders.set(folder, known)
      const hash = createHash('sha256')
      for (const file of files) {
        let entry = known.get(file.path)
        if (entry?.mark !== file.mark) {
          entry = { mark: file.mark, digest: await digest(join(folder, file.path), file) }
          known.set(file.path, entry)
        }
        hash.update(`${file.path}\0${entry.digest}\n`)
      }
      return hash.digest('hex')
    },
    forget: (folder) => {
      folders.delete(folder)
    },
  }
}

async function digest(path: string, file: FileStamp): Promise<string> {
  if (file.broken) return sha256(file.mark)
  if (file.size <= wholeLimit) return sha256(await readFile(path))
  const handle = await open(path)
  try {
    const head = Buffer.alloc(edge)
    const tail = Buffer.alloc(edge)
    await handle.read(head, 0, edge, 0)
    await handle.read(tail, 0, edge, file.size - edge)
    const { mtimeMs } = await handle.stat()
    return sha256(Buffer.concat([Buffer.from(`${file.size} ${mtimeMs}\n`), head, tail]))
  } finally {
    await handle.close()
  }
}

export function sha256(content: string | Buffer): string {
  return createHash('sha256').update(content).digest('hex')
}
