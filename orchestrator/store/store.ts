import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { BerthError } from '../domain/errors.ts'
import type { ModuleSource, Scale } from '../domain/manifest.ts'
import { openDatabase } from './database.ts'
import { createKeys, type StoredKeys } from './keys.ts'
import { lockFolder } from './lock.ts'

/**
 * What must survive a restart and a power cut: who this instance is, what was added, disabled and scaled, keys, generations.
 * SQLite in the data folder; every method is synchronous, and what it changed is on the disk when it returns.
 */
export interface Store {
  readonly instance: Instance
  readonly modules: AddedModules
  readonly disabled: DisabledModules
  readonly removals: Removals
  readonly scales: ModuleScales
  readonly keys: StoredKeys
  readonly loaded: LoadedModels
  /** The next generation of a replica id, 1 at first: never the same number twice, restarts included. */
  nextGeneration(replica: string): number
  /** Throws when the database can't be written or read any more: what `readyz` asks. */
  check(): void
  /** Gives back the database and the lock of the data folder. Idempotent. */
  close(): void
}

export interface Instance {
  /** Twelve lower-case letters and digits, made once per data folder. */
  readonly id: string
  /** 32 random bytes in hexadecimal, made once: what tokens of workloads are derived from. Never shown. */
  readonly secret: string
}

/** A module that was added by its path or its image reference. */
export interface AddedModule {
  readonly id: string
  readonly source: Exclude<ModuleSource, { readonly kind: 'external' }>
  /** ISO 8601. */
  readonly addedAt: string
  /** Name of the key or address of who added it. */
  readonly addedBy: string
}

export interface AddedModules {
  /** In the order in which they were added. */
  list(): readonly AddedModule[]
  /** Adds the module, or replaces the one of the same id. */
  put(module: AddedModule): void
  /** Whether it was there. Its removal is then on record, until it is done or the module is put again. */
  remove(id: string): boolean
}

/** Modules that were removed and of which something is left. */
export interface Removals {
  list(): readonly string[]
  done(id: string): void
}

export interface DisabledModules {
  list(): ReadonlySet<string>
  set(id: string, disabled: boolean): void
}

/** Numbers of replicas that a user asked for: they win over the manifest's. */
export interface ModuleScales {
  list(): ReadonlyMap<string, Scale>
  /** Undefined: the manifest's again. */
  set(id: string, scale: Scale | undefined): void
}

/** What was configured for the models that a workload has loaded: how an adopted one is told from an outdated one. */
export interface LoadedModels {
  /** Model -> hash, of one generation of a replica. */
  of(replica: string, generation: number): ReadonlyMap<string, string>
  put(replica: string, generation: number, model: string, hash: string): void
  remove(replica: string, generation: number, model: string): void
  /** Of this generation and all before it. */
  clear(replica: string, generation: number): void
}

/**
 * Opens (or makes) the store of a data folder and locks the folder for this process. Throws CONFIG_INVALID when another
 * orchestrator has the folder, when it can't be written, or when the database is damaged or of a newer Berth.
 */
export function createStore(folder: string): Store {
  makeFolder(folder)
  const lock = lockFolder(folder)
  try {
    return openStore(folder, lock.release)
  } catch (error) {
    lock.release()
    throw error
  }
}

function openStore(folder: string, release: () => void): Store {
  const database = openDatabase(join(folder, 'berth.db'))
  const { db } = database
  const instance = database.guard(() => readInstance(db))
  const statements = {
    modules: db.prepare('SELECT id, kind, source, added_at, added_by FROM modules ORDER BY position'),
    putModule: db.prepare(
      `INSERT INTO modules (id, kind, source, added_at, added_by) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, source = excluded.source,
         added_at = excluded.added_at, added_by = excluded.added_by`,
    ),
    removeModule: db.prepare('DELETE FROM modules WHERE id = ?'),
    removals: db.prepare('SELECT id FROM removals ORDER BY id'),
    beginRemoval: db.prepare('INSERT OR IGNORE INTO removals (id) VALUES (?)'),
    endRemoval: db.prepare('DELETE FROM removals WHERE id = ?'),
    disabled: db.prepare('SELECT id FROM disabled ORDER BY id'),
    disable: db.prepare('INSERT OR IGNORE INTO disabled (id) VALUES (?)'),
    enable: db.prepare('DELETE FROM disabled WHERE id = ?'),
    scales: db.prepare('SELECT id, min, max FROM scales ORDER BY id'),
    putScale: db.prepare(
      `INSERT INTO scales (id, min, max) VALUES (?, ?, ?)
       ON CONFLICT (id) DO UPDATE SET min = excluded.min, max = excluded.max`,
    ),
    removeScale: db.prepare('DELETE FROM scales WHERE id = ?'),
    generation: db.prepare(
      `INSERT INTO generations (replica, generation) VALUES (?, 1)
       ON CONFLICT (replica) DO UPDATE SET generation = generation + 1 RETURNING generation`,
    ),
    loaded: db.prepare('SELECT model, hash FROM loaded WHERE replica = ? AND generation = ?'),
    putLoaded: db.prepare(
      `INSERT INTO loaded (replica, generation, model, hash) VALUES (?, ?, ?, ?)
       ON CONFLICT (replica, generation, model) DO UPDATE SET hash = excluded.hash`,
    ),
    removeLoaded: db.prepare('DELETE FROM loaded WHERE replica = ? AND generation = ? AND model = ?'),
    clearLoaded: db.prepare('DELETE FROM loaded WHERE replica = ? AND generation <= ?'),
  }
  /** All of it is on the disk, or nothing. */
  const together = <T>(work: () => T): T =>
    database.guard(() => {
      db.exec('BEGIN IMMEDIATE')
      try {
        const result = work()
        db.exec('COMMIT')
        return result
      } catch (error) {
        // On a full disk SQLite has taken it back by itself.
        if (db.isTransaction) db.exec('ROLLBACK')
        throw error
      }
    })
  return {
    instance,
    keys: database.guard(() => createKeys(db, database.guard)),
    modules: {
      list: () => database.guard(() => statements.modules.all().map(toModule)),
      put({ id, source, addedAt, addedBy }) {
        const place = source.kind === 'folder' ? source.path : source.reference
        together(() => {
          statements.putModule.run(id, source.kind, place, addedAt, addedBy)
          statements.endRemoval.run(id)
        })
      },
      remove: (id) =>
        together(() => {
          const wasThere = statements.removeModule.run(id).changes !== 0
          if (wasThere) statements.beginRemoval.run(id)
          return wasThere
        }),
    },
    removals: {
      list: () => database.guard(() => statements.removals.all().map((row) => String(row.id))),
      done(id) {
        database.guard(() => statements.endRemoval.run(id))
      },
    },
    disabled: {
      list: () => database.guard(() => new Set(statements.disabled.all().map((row) => String(row.id)))),
      set: (id, disabled) => {
        database.guard(() => (disabled ? statements.disable : statements.enable).run(id))
      },
    },
    scales: {
      list: () =>
        database.guard(
          () =>
            new Map(
              statements.scales.all().map((row) => [String(row.id), { min: Number(row.min), max: Number(row.max) }]),
            ),
        ),
      set(id, scale) {
        database.guard(() =>
          scale === undefined ? statements.removeScale.run(id) : statements.putScale.run(id, scale.min, scale.max),
        )
      },
    },
    loaded: {
      of: (replica, generation) =>
        database.guard(
          () => new Map(statements.loaded.all(replica, generation).map((row) => [String(row.model), String(row.hash)])),
        ),
      put(replica, generation, model, hash) {
        database.guard(() => statements.putLoaded.run(replica, generation, model, hash))
      },
      remove(replica, generation, model) {
        database.guard(() => statements.removeLoaded.run(replica, generation, model))
      },
      clear(replica, generation) {
        database.guard(() => statements.clearLoaded.run(replica, generation))
      },
    },
    nextGeneration: (replica) => Number(database.guard(() => statements.generation.get(replica))?.generation),
    check() {
      database.guard(() => db.exec('BEGIN IMMEDIATE; ROLLBACK'))
    },
    close() {
      database.close()
      release()
    },
  }
}

type Row = Readonly<Record<string, unknown>>

function toModule(row: Row): AddedModule {
  const place = String(row.source)
  return {
    id: String(row.id),
    source: row.kind === 'folder' ? { kind: 'folder', path: place } : { kind: 'image', reference: place },
    addedAt: String(row.added_at),
    addedBy: String(row.added_by),
  }
}

function readInstance(db: ReturnType<typeof openDatabase>['db']): Instance {
  const id = Array.from(randomBytes(12), (byte) => 'abcdefghijklmnopqrstuvwxyz234567'.charAt(byte % 32)).join('')
  db.prepare('INSERT OR IGNORE INTO instance (only, id, secret) VALUES (1, ?, ?)').run(
    id,
    randomBytes(32).toString('hex'),
  )
  const row = db.prepare('SELECT id, secret FROM instance').get()
  return { id: String(row?.id), secret: String(row?.secret) }
}

function makeFolder(folder: string): void {
  try {
    const made = mkdirSync(folder, { recursive: true, mode: 0o700 })
    if (made !== undefined) chmodSync(folder, 0o700)
  } catch (error) {
    throw new BerthError(
      'CONFIG_INVALID',
      `The data folder ${folder} can't be made: ${error instanceof Error ? error.message : String(error)}`,
      { file: folder, field: 'data', remedy: 'Name another folder as `data` (BERTH_DATA), or make this one writable.' },
      { cause: error },
    )
  }
}
