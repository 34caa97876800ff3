/**
 * Each step takes the store from the version of its index to the next (`user_version`). Steps are only ever added: what
 * stands here has run on somebody's disk.
 */
export const migrations: readonly string[] = [
  `CREATE TABLE instance (
     only INTEGER PRIMARY KEY CHECK (only = 1),
     id TEXT NOT NULL,
     secret TEXT NOT NULL
   ) STRICT;
   CREATE TABLE modules (
     position INTEGER PRIMARY KEY AUTOINCREMENT,
     id TEXT NOT NULL UNIQUE,
     kind TEXT NOT NULL CHECK (kind IN ('folder', 'image')),
     source TEXT NOT NULL,
     added_at TEXT NOT NULL,
     added_by TEXT NOT NULL
   ) STRICT;
   CREATE TABLE disabled (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
   CREATE TABLE keys (
     name TEXT PRIMARY KEY,
     hash TEXT NOT NULL UNIQUE,
     scopes TEXT NOT NULL,
     created_at TEXT NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE TABLE generations (
     replica TEXT PRIMARY KEY,
     generation INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE loaded (
     replica TEXT NOT NULL,
     generation INTEGER NOT NULL,
     model TEXT NOT NULL,
     hash TEXT NOT NULL,
     PRIMARY KEY (replica, generation, model)
   ) STRICT, WITHOUT ROWID`,
  `CREATE TABLE scales (
     id TEXT PRIMARY KEY,
     min INTEGER NOT NULL,
     max INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID`,
  `ALTER TABLE keys ADD COLUMN models TEXT;
   ALTER TABLE keys ADD COLUMN expires_at TEXT;
   ALTER TABLE keys ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal'`,
  'CREATE TABLE removals (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID',
]
