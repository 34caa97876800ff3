import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { BerthError } from '../domain/errors.ts'

/** One orchestrator per data folder. */
export interface FolderLock {
  /** Idempotent. */
  release(): void
}

/**
 * Takes the folder's lock: an open transaction on a SQLite file of its own, which rests on a lock of the kernel and so is
 * free again once the process is gone, however it ended. Throws CONFIG_INVALID naming who has it.
 */
export function lockFolder(folder: string): FolderLock {
  const file = join(folder, 'lock.db')
  const holder = join(folder, 'lock.holder')
  let db: DatabaseSync | undefined
  try {
    closeSync(openSync(file, 'a', 0o600))
    db = new DatabaseSync(file, { timeout: 0 })
    db.exec('PRAGMA journal_mode = DELETE; BEGIN EXCLUSIVE')
    writeFileSync(holder, `process ${process.pid} on ${hostname()}`, { mode: 0o600 })
  } catch (error) {
    if (db?.isOpen) db.close()
    throw explain(error, folder, holder)
  }
  const open = db
  return {
    release() {
      if (open.isOpen) open.close()
    },
  }
}

function explain(error: unknown, folder: string, holder: string): BerthError {
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : undefined
  const busy = code === 5
  const message = busy
    ? `The data folder ${folder} is in use by another Berth (${holderName(holder)}).`
    : `The data folder ${folder} can't be locked: ${error instanceof Error ? error.message : String(error)}.`
  const remedy = busy
    ? 'End that one first (`berth down`), or give this one a data folder of its own (`data` in berth.yaml, BERTH_DATA).'
    : 'Make the folder writable for the user that Berth runs as and free space on its disk, or name another one (BERTH_DATA).'
  return new BerthError(
    'CONFIG_INVALID',
    `${message} ${remedy}`,
    { file: folder, field: 'data', remedy },
    { cause: error },
  )
}

function holderName(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(0, 200)
  } catch {
    return 'it has not said which process it is'
  }
}
