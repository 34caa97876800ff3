import type { DatabaseSync } from 'node:sqlite'
import { type KeyScope, type KeyView, keyScopes } from '../domain/api-key.ts'
import { priorities } from '../domain/priority.ts'

/** API keys as the store keeps them: hashes, never secrets. `find` answers from memory, since every request asks. */
export interface StoredKey extends KeyView {
  /** SHA-256 of the secret in lower-case hexadecimal. */
  readonly hash: string
}

export interface StoredKeys {
  find(hash: string): StoredKey | undefined
  get(name: string): StoredKey | undefined
  /** Sorted by name. */
  list(): readonly StoredKey[]
  /** Adds the key, or replaces the one of the same name. Durable once it returns. */
  put(key: StoredKey): void
  /** Whether it was there. */
  remove(name: string): boolean
}

export function createKeys(db: DatabaseSync, guard: <T>(work: () => T) => T): StoredKeys {
  const columns = 'name, hash, scopes, created_at, models, expires_at, priority'
  const put = db.prepare(
    `INSERT INTO keys (${columns}) VALUES (?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, created_at = excluded.created_at,
       models = excluded.models, expires_at = excluded.expires_at, priority = excluded.priority`,
  )
  const remove = db.prepare('DELETE FROM keys WHERE name = ?')
  const byHash = new Map<string, StoredKey>()
  const byName = new Map<string, StoredKey>()
  const forget = (name: string): boolean => {
    const known = byName.get(name)
    if (known === undefined) return false
    byName.delete(name)
    return byHash.delete(known.hash)
  }
  const remember = (key: StoredKey): void => {
    forget(key.name)
    byName.set(key.name, key)
    byHash.set(key.hash, key)
  }
  for (const row of db.prepare(`SELECT ${columns} FROM keys`).all()) remember(toKey(row))
  return {
    find: (hash) => byHash.get(hash),
    get: (name) => byName.get(name),
    list: () => [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    put(key) {
      const { name, hash, scopes, createdAt, models, expiresAt, priority } = key
      const allowed = models === undefined ? null : JSON.stringify(models)
      guard(() => put.run(name, hash, scopes.join(' '), createdAt, allowed, expiresAt ?? null, priority))
      remember(structuredClone(key))
    },
    remove(name) {
      guard(() => remove.run(name))
      return forget(name)
    },
  }
}

function toKey(row: Readonly<Record<string, unknown>>): StoredKey {
  return {
    name: String(row.name),
    hash: String(row.hash),
    scopes: String(row.scopes).split(' ').filter(isScope),
    // What can't be read as a list allows nothing.
    ...(row.models === null ? {} : { models: readNames(String(row.models)) }),
    priority: priorities.find((priority) => priority === row.priority) ?? 'normal',
    ...(row.expires_at === null ? {} : { expiresAt: String(row.expires_at) }),
    createdAt: String(row.created_at),
  }
}

function readNames(text: string): readonly string[] {
  try {
    const names: unknown = JSON.parse(text)
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : []
  } catch {
    return []
  }
}

function isScope(text: string): text is KeyScope {
  return keyScopes.some((scope) => scope === text)
}
