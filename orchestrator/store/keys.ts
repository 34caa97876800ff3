import type { DatabaseSync } from 'node:sqlite'

/** API keys as the store keeps them: hashes, never secrets. `find` answers from memory, since every request asks. */
export interface StoredKey {
  /** Unique. */
  readonly name: string
  /** SHA-256 of the secret in lower-case hexadecimal. */
  readonly hash: string
  readonly scopes: readonly KeyScope[]
  /** ISO 8601. */
  readonly createdAt: string
}

export type KeyScope = 'admin' | 'infer'

export interface StoredKeys {
  find(hash: string): StoredKey | undefined
  /** Sorted by name. */
  list(): readonly StoredKey[]
  /** Adds the key, or replaces the one of the same name. */
  put(key: StoredKey): void
  /** Whether it was there. */
  remove(name: string): boolean
}

export function createKeys(db: DatabaseSync, guard: <T>(work: () => T) => T): StoredKeys {
  const put = db.prepare(
    `INSERT INTO keys (name, hash, scopes, created_at) VALUES (?, ?, ?, ?)
     ON CONFLICT (name) DO UPDATE SET hash = excluded.hash, scopes = excluded.scopes, created_at = excluded.created_at`,
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
  for (const row of db.prepare('SELECT name, hash, scopes, created_at FROM keys').all()) {
    remember({
      name: String(row.name),
      hash: String(row.hash),
      scopes: String(row.scopes).split(' ').filter(isScope),
      createdAt: String(row.created_at),
    })
  }
  return {
    find: (hash) => byHash.get(hash),
    list: () => [...byName.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
    put(key) {
      guard(() => put.run(key.name, key.hash, key.scopes.join(' '), key.createdAt))
      remember({ ...key, scopes: [...key.scopes] })
    },
    remove(name) {
      guard(() => remove.run(name))
      return forget(name)
    },
  }
}

function isScope(text: string): text is KeyScope {
  return text === 'admin' || text === 'infer'
}
