import { randomUUID } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isAdmin, adminKeyName as name } from '../../domain/api-key.ts'
import { BerthError } from '../../domain/errors.ts'
import type { StoredKeys } from '../../store/keys.ts'
import { hashKey, makeKey } from './keys.ts'

export interface AdminKey {
  /** `others`: there is none of that name, as it was removed, and others with the scope admin are known. */
  readonly from: 'environment' | 'file' | 'made' | 'others'
  /** Where the key can be read: to be logged, unlike the key. Absent when it came from the environment. */
  readonly path?: string
  /** So short that it may be guessed by trying. */
  readonly weak?: true
}

/** Of the hexadecimal or base64 of 12 random bytes. */
const shortestStrong = 16

/**
 * Puts the admin key into the store: the one given (BERTH_ADMIN_KEY), else the one in `<data>/admin.key`, else a new one,
 * written there with mode 600, unless it was removed in favour of others. The record `admin` is replaced, so an earlier admin key stops working; deleting the file
 * and starting again makes a new key. Rejects with CONFIG_INVALID when the file can't be read or written, or holds no key.
 */
export async function ensureAdminKey(
  store: Pick<StoredKeys, 'find' | 'get' | 'list' | 'put'>,
  dataDirectory: string,
  given?: string,
): Promise<AdminKey> {
  const put = (secret: string): void => {
    const hash = hashKey(secret)
    if (store.find(hash)?.name === name) return
    store.put({ name, hash, scopes: ['admin', 'infer'], priority: 'normal', createdAt: new Date().toISOString() })
  }
  if (given !== undefined && given.trim() !== '') {
    put(given.trim())
    return { from: 'environment', ...strengthOf(given.trim()) }
  }
  const path = adminKeyFile(dataDirectory)
  try {
    const kept = await readKey(path)
    if (kept !== undefined) {
      put(kept)
      return { from: 'file', path, ...strengthOf(kept) }
    }
    const lasting = store.list().some((key) => isAdmin(key) && key.expiresAt === undefined)
    if (lasting && !store.get(name)) return { from: 'others' }
    const secret = makeKey()
    await writePrivately(path, `${secret}\n`)
    put(secret)
    return { from: 'made', path }
  } catch (error) {
    throw new BerthError(
      'CONFIG_INVALID',
      `The admin key can't be kept in ${path}: ${error instanceof Error ? error.message : String(error)}.`,
      {
        file: path,
        remedy: 'Make the data folder writable, or give a key with BERTH_ADMIN_KEY or BERTH_ADMIN_KEY_FILE.',
      },
      { cause: error },
    )
  }
}

function strengthOf(key: string): { readonly weak?: true } {
  return key.length < shortestStrong ? { weak: true } : {}
}

/** Where the admin key is kept, if none is given. */
export function adminKeyFile(dataDirectory: string): string {
  return join(dataDirectory, 'admin.key')
}

async function readKey(path: string): Promise<string | undefined> {
  try {
    const key = (await readFile(path, 'utf8')).trim()
    if (key === '') return undefined
    if (/^[\x21-\x7e]+$/.test(key)) return key
    throw new Error('it travels in a header, so it must be one line of plain text without spaces')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Whole or not at all, whenever the power goes: written beside its place, synced, then renamed. */
async function writePrivately(path: string, text: string): Promise<void> {
  const draft = `${path}.${randomUUID()}`
  try {
    const file = await open(draft, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(draft, path)
  } catch (error) {
    await rm(draft, { force: true })
    throw error
  }
  const folder = await open(dirname(path))
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
