import { mkdir, readdir, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { BerthError, toBerthError } from '../domain/errors.ts'
import { sourcePlace } from '../domain/manifest.ts'
import { type CatalogEntry, isIgnored } from './catalog.ts'
import { settleDuplicates } from './duplicates.ts'
import { createFileDigests, type FileStamp, listFiles, signature } from './files.ts'
import { type FolderContext, readModuleFolder, unreadable } from './module-folder.ts'

/** What is scanned and how; may change between two scans. */
export interface ScanInput extends Pick<FolderContext, 'settings' | 'defaults'> {
  readonly modulesFolder: string
  /** Module folders elsewhere, added by their path. */
  readonly extraFolders: readonly string[]
}

export interface ScanResult {
  /** Sorted by id, ids unique. */
  readonly entries: readonly CatalogEntry[]
  /** A folder is changing: scan again once it may have come to rest. */
  readonly unsettled: boolean
  /** The modules folder itself can't be read; the entries are the ones known before. */
  readonly problem?: BerthError
}

export interface Scanner {
  /** `settled`: take what is there at once, as at the start. One at a time. */
  scan(input: ScanInput, now: number, settled: boolean): Promise<ScanResult>
}

interface Folder {
  /** What the entry was read from; undefined while it waits for its first reading. */
  accepted?: { readonly signature: string; readonly input: ScanInput; readonly entry: CatalogEntry }
  /** It was named by its path: then a user, not a copy under way, decides when it is there. */
  named?: boolean
  /** What was seen since, when first and when last it looked different. */
  pending?: { readonly signature: string; readonly first: number; readonly last: number }
}

/** Nothing of a folder is there. */
const gone = 'gone'

/**
 * `settleMs`: a folder that changes is read once it has stayed the same for that long, so that half-copied folders are
 * not taken for modules and edits in quick succession count once; one that never rests is read after `settleLimitMs`.
 * Folders that are named by their path come and go at once.
 */
export function createScanner({ settleMs, settleLimitMs }: { settleMs: number; settleLimitMs: number }): Scanner {
  const digests = createFileDigests()
  const folders = new Map<string, Folder>()
  let holders: ReadonlyMap<string, string> = new Map()
  let last: readonly CatalogEntry[] = []

  const rest = (folder: Folder, seen: string, now: number, settled: boolean): boolean => {
    if (settled) return true
    const { pending } = folder
    if (pending === undefined || pending.signature !== seen) {
      folder.pending = { signature: seen, first: pending?.first ?? now, last: now }
    }
    const { first, last: changed } = folder.pending ?? { first: now, last: now }
    return now - changed >= settleMs || now - first >= settleLimitMs
  }

  const visit = async (path: string, input: ScanInput, now: number, settled: boolean): Promise<void> => {
    const folder = folders.get(path) ?? {}
    folders.set(path, folder)
    const { files, seen, error } = await look(path)
    const same = folder.accepted?.signature === seen
    if (same && folder.accepted?.input === input) {
      delete folder.pending
      return
    }
    if (!same && !rest(folder, seen, now, settled)) return
    const entry = await read(path, files, error, { ...input, digests }, folder.accepted?.entry.id)
    const written = (await look(path)).seen
    if (written !== seen && !rest(folder, written, now, settled)) return
    delete folder.pending
    folder.accepted = { signature: seen, input, entry }
  }

  return {
    async scan(input, now, settled) {
      const found = await moduleFolders(input.modulesFolder)
      if (found instanceof BerthError) return { entries: last, unsettled: false, problem: found }
      const paths = new Set([...found, ...input.extraFolders])
      const named = new Set(input.extraFolders)
      for (const path of paths) await visit(path, input, now, settled || (named.has(path) && !folders.has(path)))
      for (const [path, folder] of folders) {
        if (paths.has(path)) {
          folder.named = named.has(path)
          continue
        }
        if (folder.accepted !== undefined && !folder.named && !rest(folder, gone, now, settled)) continue
        folders.delete(path)
        digests.forget(path)
      }
      const accepted = [...folders.values()].flatMap((folder) => folder.accepted?.entry ?? [])
      last = settleDuplicates(accepted, holders)
      holders = new Map(last.flatMap((entry) => (entry.error === undefined ? [[entry.id, place(entry)]] : [])))
      return { entries: last, unsettled: [...folders.values()].some(({ pending }) => pending !== undefined) }
    },
  }
}

function place(entry: CatalogEntry): string {
  return sourcePlace(entry.source)
}

/** Folders in the modules folder, which is made when it is missing. Links to folders are folders. */
async function moduleFolders(folder: string): Promise<readonly string[] | BerthError> {
  try {
    await mkdir(folder, { recursive: true })
    const names = (await readdir(folder)).filter((name) => !isIgnored(name)).sort()
    const paths = names.map((name) => join(folder, name))
    const kinds = await Promise.all(
      paths.map((path) =>
        stat(path).then(
          (info) => info.isDirectory(),
          () => false,
        ),
      ),
    )
    return paths.filter((_, index) => kinds[index])
  } catch (error) {
    const remedy =
      'Make it a folder that Berth may read, or name another one as `modules` in berth.yaml (BERTH_MODULES).'
    return new BerthError(
      'CONFIG_INVALID',
      `The modules folder ${folder} can't be read: ${error instanceof Error ? error.message : String(error)}. ${remedy}`,
      { file: folder, field: 'modules', remedy },
      { cause: error },
    )
  }
}

interface Look {
  readonly files: readonly FileStamp[]
  readonly seen: string
  readonly error?: unknown
}

async function look(path: string): Promise<Look> {
  try {
    const files = await listFiles(path)
    return { files, seen: signature(files) }
  } catch (error) {
    return { files: [], seen: `unreadable: ${error instanceof Error ? error.message : String(error)}`, error }
  }
}

/** A module whose `module.yaml` broke keeps the id that it had, so that it is seen as that module with an error. */
async function read(
  path: string,
  files: readonly FileStamp[],
  failure: unknown,
  context: FolderContext,
  knownId: string | undefined,
): Promise<CatalogEntry> {
  const source = { kind: 'folder', path } as const
  const name = basename(path)
  try {
    if (failure !== undefined) throw missing(failure, path) ?? unreadable(failure, { module: name, file: path })
    const manifest = await readModuleFolder(path, { ...context, files })
    return { id: manifest.id, source, manifest }
  } catch (error) {
    const told = toBerthError(error)
    const { module } = told.details
    const id = typeof module === 'string' && module !== name ? module : (knownId ?? name)
    return { id, source, error: told }
  }
}

function missing(failure: unknown, path: string): BerthError | undefined {
  if (!(failure instanceof Error) || !('code' in failure) || failure.code !== 'ENOENT') return undefined
  const remedy = 'Put it back, or remove the module with `berth remove`.'
  return new BerthError('MODULE_NOT_FOUND', `The folder ${path} was added as a module and is not there. ${remedy}`, {
    module: basename(path),
    file: path,
    remedy,
  })
}
