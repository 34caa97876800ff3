import { appendFile, type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * One log on disk: lines are appended in batches, the file is set aside as `<path>.1` when it is full, and everything
 * happens in the order it was asked for. What was written survives the end of the process at any moment; a line torn by
 * it is closed before the next one.
 */
export interface LogFile {
  /**
   * Takes a complete line with its line end; `onWritten` is called when it is in the file, or can't be as the disk takes
   * nothing. While too much waits for the disk the line is counted as missing, and nothing is called.
   */
  append(line: string, onWritten: () => void): void
  /**
   * Opens the files as they are once everything appended so far is written. The caller closes what it gets. `onTaken` is
   * called in that moment: what is written later, and only that, is not in the snapshot.
   */
  snapshot(onTaken?: () => void): Promise<LogSnapshot>
  /** Deletes the files. Later lines begin new ones. */
  remove(): Promise<void>
  /** Resolves when everything appended so far is written, or counted as missing. */
  flush(): Promise<void>
}

/** Oldest first. Only the first `size` bytes of a file belong to the snapshot. */
export type LogSnapshot = readonly { readonly handle: FileHandle; readonly size: number }[]

export interface LogFileOptions {
  readonly path: string
  readonly maxBytes: number
  /** The line that stands in the place of so many that are missing. */
  readonly missing: (lines: number) => string
  /** So many are missing where the lines are now. */
  readonly onGap: (lines: number) => void
  /** The disk took no lines (it is full, say); told again only after it took some. */
  readonly onFailure: (error: unknown) => void
}

interface Line {
  readonly line: string
  readonly onWritten: () => void
}

/** Stands where so many lines found no room. */
interface Gap {
  missing: number
}

const batchDelayMs = 50
const batchBytes = 64 * 1024
const waitingLimit = 4 * 1024 * 1024

export function openLogFile(options: LogFileOptions): LogFile {
  const { path, maxBytes } = options
  let batch: (Line | Gap)[] = []
  let batchSize = 0
  let waitingSize = 0
  let lost = 0
  let failing = false
  let timer: NodeJS.Timeout | undefined
  let size: number | undefined
  let torn = false
  let last: Promise<unknown> = Promise.resolve()

  const inOrder = <T>(work: () => Promise<T>): Promise<T> => {
    const done = last.then(work)
    last = done.catch(() => undefined)
    return done
  }

  const begin = async (): Promise<number> => {
    await mkdir(dirname(path), { recursive: true })
    const handle = await openIfThere(path)
    if (handle === undefined) return 0
    try {
      const { size: found } = await handle.stat()
      const end = Buffer.alloc(1)
      torn = found > 0 && (await handle.read(end, 0, 1, found - 1)).bytesRead === 1 && end[0] !== 0x0a
      return found
    } finally {
      await handle.close()
    }
  }

  const write = async (text: string): Promise<void> => {
    size ??= await begin()
    const told = lost
    const bytes = Buffer.from(`${torn ? '\n' : ''}${told > 0 ? options.missing(told) : ''}${text}`)
    if (size > 0 && size + bytes.length > maxBytes) {
      await rename(path, `${path}.1`).catch(ignoreMissing)
      size = 0
    }
    torn = true
    await appendFile(path, bytes, { mode: 0o640 })
    torn = false
    failing = false
    size += bytes.length
    lost -= told
  }

  const writeBatch = (): void => {
    clearTimeout(timer)
    timer = undefined
    if (batch.length === 0) return
    const items = batch
    const text = items.map((item) => ('line' in item ? item.line : options.missing(item.missing))).join('')
    batch = []
    const waited = batchSize
    batchSize = 0
    inOrder(async () => {
      try {
        await write(text)
      } catch (error) {
        size = undefined
        for (const item of items) lost += 'line' in item ? 1 : item.missing
        if (!failing) options.onFailure(error)
        failing = true
      }
      waitingSize -= waited
      for (const item of items) {
        if ('line' in item) item.onWritten()
        else options.onGap(item.missing)
      }
    }).catch(() => undefined)
  }

  return {
    append(line, onWritten) {
      if (waitingSize + line.length > waitingLimit) {
        const last = batch.at(-1)
        if (last !== undefined && 'missing' in last) last.missing += 1
        else batch.push({ missing: 1 })
      } else {
        batch.push({ line, onWritten })
        batchSize += line.length
        waitingSize += line.length
      }
      if (batchSize >= batchBytes) writeBatch()
      else timer ??= setTimeout(writeBatch, batchDelayMs).unref()
    },
    snapshot(onTaken) {
      writeBatch()
      return inOrder(async () => {
        const files: { handle: FileHandle; size: number }[] = []
        try {
          for (const each of [`${path}.1`, path]) {
            const handle = await openIfThere(each)
            if (handle === undefined) continue
            const file = { handle, size: 0 }
            files.push(file)
            file.size = (await handle.stat()).size
          }
          onTaken?.()
          return files
        } catch (error) {
          await Promise.all(files.map(({ handle }) => handle.close()))
          throw error
        }
      })
    },
    remove() {
      writeBatch()
      return inOrder(async () => {
        size = undefined
        for (const each of [path, `${path}.1`]) await rm(each, { force: true })
      })
    },
    flush() {
      writeBatch()
      return inOrder(() => Promise.resolve())
    },
  }
}

async function openIfThere(path: string): Promise<FileHandle | undefined> {
  return open(path, 'r').catch(ignoreMissing)
}

function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw error
}
