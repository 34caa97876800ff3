import { chmodSync, closeSync, openSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'
import { BerthError } from '../domain/errors.ts'
import { migrations } from './migrations.ts'

/** The SQLite file of the store, open, private, checked and migrated. */
export interface Database {
  readonly db: DatabaseSync
  /** Runs a statement; an error of SQLite becomes one that names the file and what to do. */
  guard<T>(work: () => T): T
  /** Idempotent. */
  close(): void
}

/** Result codes of SQLite (sqlite.org/rescode.html), lower byte. */
const codes = { busy: 5, readOnly: 8, io: 10, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 }

/** Throws CONFIG_INVALID for a file that is damaged, of a newer Berth, or can't be opened. */
export function openDatabase(file: string): Database {
  const guard = <T>(work: () => T): T => {
    try {
      return work()
    } catch (error) {
      throw explain(error, file)
    }
  }
  const db = guard(() => {
    makePrivate(file)
    return new DatabaseSync(file, { timeout: 5_000 })
  })
  try {
    guard(() => {
      db.exec(
        'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF',
      )
      checkIntegrity(db, file)
      migrate(db, file)
    })
  } catch (error) {
    db.close()
    throw error
  }
  return {
    db,
    guard,
    close() {
      if (!db.isOpen) return
      db.close()
    },
  }
}

/** SQLite makes its side files with the mode of the main one, so that is made first. */
function makePrivate(file: string): void {
  closeSync(openSync(file, 'a', 0o600))
  chmodSync(file, 0o600)
}

function checkIntegrity(db: DatabaseSync, file: string): void {
  const result = db.prepare('PRAGMA quick_check(1)').get()?.quick_check
  if (result !== 'ok') throw damaged(file, String(result))
}

function migrate(db: DatabaseSync, file: string): void {
  const version = Number(db.prepare('PRAGMA user_version').get()?.user_version)
  if (version > migrations.length) {
    throw new BerthError(
      'CONFIG_INVALID',
      `The store ${file} was written by a newer Berth (its version is ${version}, this one knows ${migrations.length}).`,
      { file, field: 'data', remedy: 'Run that newer Berth, or name another data folder (BERTH_DATA).' },
    )
  }
  for (const [index, statements] of migrations.entries()) {
    if (index < version) continue
    db.exec(`BEGIN IMMEDIATE; ${statements}; PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}

function damaged(file: string, reason: string, cause?: unknown): BerthError {
  return new BerthError(
    'CONFIG_INVALID',
    `The store ${file} is damaged (${reason}). It holds what was added, disabled and scaled, keys and the id of this instance.`,
    {
      file,
      field: 'data',
      remedy: `Put a backup in its place; or move ${file}, ${file}-wal and ${file}-shm away and start again: folders in the modules folder are found again, added images and keys are not.`,
    },
    { cause },
  )
}

function explain(error: unknown, file: string): BerthError {
  if (error instanceof BerthError) return error
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && 'errcode' in error ? Number(error.errcode) & 0xff : undefined
  if (code === codes.corrupt || code === codes.notADatabase) return damaged(file, message, error)
  const remedies: Readonly<Record<number, string>> = {
    [codes.busy]: 'Another process has it open: end that process.',
    [codes.readOnly]: 'Make the file and its folder writable for the user that Berth runs as.',
    [codes.io]: 'Check the disk that the data folder lies on.',
    [codes.full]: 'Free space on the disk that the data folder lies on.',
    [codes.cantOpen]: 'Make the file and its folder readable and writable for the user that Berth runs as.',
  }
  const remedy = remedies[code ?? codes.cantOpen] ?? 'Check the file and the disk that it lies on.'
  const atStart = code === undefined || code === codes.cantOpen
  return new BerthError(
    atStart ? 'CONFIG_INVALID' : 'INTERNAL',
    `The store ${file} can't be used: ${message}. ${remedy}`,
    { file, field: 'data', remedy },
    { cause: error },
  )
}
