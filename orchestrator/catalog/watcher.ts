import { basename } from 'node:path'
import { watch } from 'chokidar'
import { BerthError, toBerthError } from '../domain/errors.ts'
import { type CatalogEntry, isIgnored, sameEntries } from './catalog.ts'
import { createScanner, type ScanInput } from './scanner.ts'

export interface CatalogWatcherOptions extends ScanInput {
  /** The whole list, whenever it has changed; also the first one. A bad edit shows as an entry with an error. */
  readonly onChange: (entries: readonly CatalogEntry[]) => void
  /** Something about watching itself, told once while it lasts: the modules folder can't be read, too many watches. */
  readonly onProblem?: (error: BerthError) => void
  /** How long a folder must rest before it is read. */
  readonly settleMs?: number
  /** Shortest time between two scans that no event asked for: some file systems send none. */
  readonly rescanMs?: number
}

export interface CatalogWatcher {
  /** Reads what is there and watches from then on. Call once. */
  start(): Promise<readonly CatalogEntry[]>
  entries(): readonly CatalogEntry[]
  /** Takes over settings or folders that have changed; resolves when the list says so. */
  update(changes: Partial<ScanInput>): Promise<readonly CatalogEntry[]>
  /** Reads everything now, without waiting for folders to rest. */
  rescan(): Promise<readonly CatalogEntry[]>
  /** Resolves when nothing of it runs any more. Idempotent. */
  close(): Promise<void>
}

/** A burst of events makes one scan. */
const burstMs = 50
const settleLimitMs = 60_000
const longestRescanMs = 30_000
/**
 * Rest after a scan, in times of what it took. Where something has just changed more may follow, and events may be missed
 * until a new folder is watched; else looking costs half a per cent of the time at most, however many modules there are.
 */
const rest = { busy: 10, quiet: 200 }
const quietAfterMs = 30_000

/**
 * Keeps the list of modules up to date: events of the file system ask for a scan, and a timer asks for one where events
 * are lost or don't exist. What a scan finds is the truth; events only say that it is worth looking.
 */
export function createCatalogWatcher(options: CatalogWatcherOptions): CatalogWatcher {
  const { onChange, onProblem, settleMs = 300, rescanMs = 1_000, ...initial } = options
  const scanner = createScanner({ settleMs, settleLimitMs })
  let input: ScanInput = initial
  let entries: readonly CatalogEntry[] | undefined
  let timer: NodeJS.Timeout | undefined
  let due = Number.POSITIVE_INFINITY
  let chain: Promise<unknown> = Promise.resolve()
  let closed = false
  let changedAt = Date.now()
  const restPerScan = () => (Date.now() - changedAt < quietAfterMs ? rest.busy : rest.quiet)
  let watcher: ReturnType<typeof watch> | undefined
  const told = new Set<string>()

  const tell = (error: BerthError): void => {
    if (told.has(error.message)) return
    told.add(error.message)
    onProblem?.(error)
  }
  let folderProblem: BerthError | undefined

  /** The earliest wish wins. */
  const scanIn = (delayMs: number): void => {
    const at = Date.now() + delayMs
    if (closed || at >= due) return
    clearTimeout(timer)
    due = at
    timer = setTimeout(() => void run(false).catch((error) => tell(toBerthError(error))), delayMs)
  }

  /** Scans one after the other. */
  const run = (settled: boolean): Promise<readonly CatalogEntry[]> => {
    const result = chain.then(() => scanOnce(settled))
    chain = result.catch(() => undefined)
    return result
  }

  const scanOnce = async (settled: boolean): Promise<readonly CatalogEntry[]> => {
    if (closed) return entries ?? []
    clearTimeout(timer)
    due = Number.POSITIVE_INFINITY
    const began = Date.now()
    try {
      const result = await scanner.scan(input, began, settled)
      if (result.problem !== undefined) tell(result.problem)
      else if (folderProblem !== undefined) told.delete(folderProblem.message)
      folderProblem = result.problem
      publish(result.entries)
      if (result.unsettled) scanIn(settleMs)
    } finally {
      scanIn(Math.min(longestRescanMs, Math.max(rescanMs, restPerScan() * (Date.now() - began))))
    }
    return entries ?? []
  }

  const publish = (found: readonly CatalogEntry[]): void => {
    if (closed || (entries !== undefined && sameEntries(entries, found))) return
    entries = found
    changedAt = Date.now()
    onChange(found)
  }

  const observe = (): void => {
    watcher = watch([input.modulesFolder, ...input.extraFolders], {
      ignoreInitial: true,
      // A link may lead to the root of the machine; what changes behind one is found by the timer.
      followSymlinks: false,
      ignored: (path) =>
        isIgnored(basename(path)) && path !== input.modulesFolder && !input.extraFolders.includes(path),
    })
    watcher.on('all', () => {
      changedAt = Date.now()
      scanIn(burstMs)
    })
    watcher.on('error', (error) => tell(lateNotice(error)))
  }

  return {
    async start() {
      const first = await run(true)
      if (!closed) observe()
      return first
    },
    entries: () => entries ?? [],
    update(changes) {
      const before = new Set(input.extraFolders)
      input = { ...input, ...changes }
      const after = new Set(input.extraFolders)
      watcher?.unwatch([...before].filter((path) => !after.has(path)))
      watcher?.add([...after].filter((path) => !before.has(path)))
      return run(false)
    },
    rescan: () => run(true),
    async close() {
      closed = true
      clearTimeout(timer)
      await watcher?.close()
      await chain
    },
  }
}

/** The same for all files that have the same problem. */
function lateNotice(error: unknown): BerthError {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  const why = code === 'ENOSPC' || code === 'EMFILE' ? 'the system has no more watches for files' : code
  const message = `Changes of modules may be noticed some seconds late: ${why}.`
  return new BerthError('INTERNAL', message, {}, { cause: error })
}
