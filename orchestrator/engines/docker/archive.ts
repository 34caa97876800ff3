import { createReadStream } from 'node:fs'
import { lstat, readdir, readFile, readlink, realpath } from 'node:fs/promises'
import { dirname, isAbsolute, join, posix, relative, resolve, sep } from 'node:path'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Header, pack as makePack, type Pack } from 'tar-stream'
import { BerthError } from '../../domain/errors.ts'
import { inside } from './inside.ts'

/**
 * What goes into a container goes as a tar stream over the daemon's API: that works with a remote daemon and from
 * inside a container, where a bind mount would not. Files are streamed; none is held in memory whole but small ones.
 */
export interface FolderOptions {
  /** For errors. */
  readonly module: string
  /** Path inside the archive under which the folder's content stands; empty: at the root. */
  readonly prefix: string
  /** Path relative to the folder, with `/`. A folder left out is not looked into. */
  readonly exclude?: (path: string, isFolder: boolean) => boolean
}

const smallFile = 64 * 1024

/** Left out of module archives: nothing that a module reads, and much of it for the daemon to copy at every start. */
const neverSent = new Set(['.git', '__pycache__', 'node_modules', '.venv', '.DS_Store'])
export const moduleExclusions = (path: string): boolean => neverSent.has(posix.basename(path))

/**
 * A folder as a tar stream: everything owned by root and readable by all, whatever its mode here (weights saved by
 * `save_pretrained` are 0600). Links that lead outside are an error, sockets and devices are left out.
 * The stream fails with MANIFEST_INVALID naming the file.
 */
export function folderArchive(folder: string, options: FolderOptions): Readable {
  return filled(async (pack) => {
    const root = await realpath(folder).catch((cause: unknown) => {
      throw new BerthError(
        'MODULE_NOT_FOUND',
        `The folder of module ${options.module} is not there: ${folder}`,
        { module: options.module, file: folder },
        { cause },
      )
    })
    if (options.prefix !== '') await add(pack, { name: options.prefix, type: 'directory', mode: 0o755 })
    await addFolder(pack, root, '', options)
  })
}

/** An archive of whole entries; `content` only of files. */
export interface Entry {
  readonly name: string
  readonly content?: string | Buffer
  /** Owner and group; root when absent. */
  readonly owner?: number
  readonly mode?: number
}

export function entriesArchive(entries: readonly Entry[]): Readable {
  return filled(async (pack) => {
    for (const { name, content, owner = 0, mode } of entries) {
      const type = content === undefined ? 'directory' : 'file'
      const header = { name, type, uid: owner, gid: owner, mode: mode ?? (type === 'file' ? 0o644 : 0o755) } as const
      await add(pack, header, content)
    }
  })
}

/** Folders that the module may write, in a volume whose root belongs to root. */
export function writableFolders(...paths: readonly string[]): Readable {
  return entriesArchive(paths.map((name) => ({ name, owner: inside.uid, mode: 0o755 })))
}

function filled(fill: (pack: Pack) => Promise<void>): Readable {
  const pack = makePack()
  fill(pack).then(
    () => pack.finalize(),
    (error: unknown) => pack.destroy(error instanceof Error ? error : new Error(String(error))),
  )
  return pack as unknown as Readable
}

async function addFolder(pack: Pack, root: string, path: string, options: FolderOptions): Promise<void> {
  const here = join(root, path)
  const found = await readdir(here, { withFileTypes: true }).catch((cause: unknown) => {
    throw unreadable(options.module, here, cause)
  })
  for (const entry of found.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const child = path === '' ? entry.name : `${path}/${entry.name}`
    if (options.exclude?.(child, entry.isDirectory()) === true) continue
    const name = options.prefix === '' ? child : `${options.prefix}/${child}`
    if (entry.isDirectory()) {
      await add(pack, { name, type: 'directory', mode: 0o755 })
      await addFolder(pack, root, child, options)
    } else if (entry.isSymbolicLink()) {
      const linkname = await linkInside(root, child, options.module)
      await add(pack, { name, type: 'symlink', linkname, mode: 0o777 })
    } else if (entry.isFile()) {
      await addFile(pack, join(root, child), name, options.module)
    }
  }
}

type PartialHeader = Partial<Header> & { readonly name: string }

async function addFile(pack: Pack, path: string, name: string, module: string): Promise<void> {
  try {
    const { size, mode, mtime } = await lstat(path)
    const header: PartialHeader = { name, type: 'file', mtime, mode: (mode & 0o111) === 0 ? 0o644 : 0o755 }
    if (size <= smallFile) return await add(pack, header, await readFile(path))
    const entry = pack.entry({ ...owned(header), size })
    // Exactly the size that the header says, also when the file grows meanwhile; one that shrinks fails the stream.
    await pipeline(createReadStream(path, { end: size - 1 }), entry)
  } catch (cause) {
    throw unreadable(module, path, cause)
  }
}

const owned = (header: PartialHeader): PartialHeader => ({ uid: 0, gid: 0, ...header })

/** Resolves when the entry is in the stream, or fails when nobody takes the stream any more. */
function add(pack: Pack, header: PartialHeader, content?: string | Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (error?: Error | null): void => (error ? reject(error) : resolve())
    if (content === undefined) pack.entry(owned(header), done)
    else pack.entry(owned(header), content, done)
  })
}

/** Where a link points, relative to itself. Rejects with MANIFEST_INVALID when that is not in the folder. */
async function linkInside(root: string, path: string, module: string): Promise<string> {
  const link = join(root, path)
  const target = await readlink(link).catch((cause: unknown) => {
    throw unreadable(module, link, cause)
  })
  const lexical = resolve(dirname(link), target)
  // Links on the way count too; one that leads nowhere is judged by its text.
  const real = await realpath(link).catch(() => lexical)
  if (!isWithin(root, lexical) || !isWithin(root, real)) {
    throw new BerthError(
      'MANIFEST_INVALID',
      `Module ${module}: the link ${path} leads out of the module's folder, to ${target}`,
      {
        module,
        file: path,
        remedy: 'put the file itself into the folder',
      },
    )
  }
  return isAbsolute(target) ? relative(dirname(link), lexical) || '.' : target
}

const isWithin = (root: string, path: string): boolean => path === root || path.startsWith(root + sep)

function unreadable(module: string, file: string, cause: unknown): BerthError {
  if (cause instanceof BerthError) return cause
  const why = cause instanceof Error ? cause.message : String(cause)
  const remedy = file.includes('\uFFFD')
    ? 'rename the file: its name is no UTF-8'
    : 'see that the file exists and that this user may read it'
  return new BerthError(
    'MANIFEST_INVALID',
    `Module ${module}: ${file} can't be read: ${why}; ${remedy}`,
    { module, file, remedy },
    { cause },
  )
}
