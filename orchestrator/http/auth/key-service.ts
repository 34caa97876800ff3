import { rmSync } from 'node:fs'
import { adminKeyName, isAdmin, isExpired, type KeyView } from '../../domain/api-key.ts'
import { BerthError } from '../../domain/errors.ts'
import type { StoredKey, StoredKeys } from '../../store/keys.ts'
import type { KeysService, KeyWish } from '../services.ts'
import { hashKey, makeKey } from './keys.ts'

export interface KeyServiceOptions {
  readonly keys: StoredKeys
  /** Requests need a key. */
  readonly required: boolean
  /** Where the key `admin` comes from at the next start: a file that goes with it, or the environment. */
  readonly adminKey: { readonly file: string } | { readonly variable: string }
  readonly nowMs: () => number
  /** Told of a key that was made or removed, and by whom. */
  readonly log: (message: string) => void
  /** Ends what goes on for a key that is no more. */
  readonly onRemoved: (caller: string) => void
}

/** What is done with API keys: list, make, remove. */
export function createKeyService(options: KeyServiceOptions): KeysService {
  const { keys, nowMs } = options

  return {
    required: options.required,
    list: () => keys.list().map(view),

    add(wish, by) {
      const expiresAt = readExpiry(wish.expiresAt, nowMs())
      checkWish(wish, keys)
      const secret = makeKey()
      const key: StoredKey = {
        name: wish.name,
        hash: hashKey(secret),
        scopes: wish.scopes,
        ...(wish.models === undefined ? {} : { models: wish.models }),
        priority: wish.priority,
        ...(expiresAt === undefined ? {} : { expiresAt }),
        createdAt: new Date(nowMs()).toISOString(),
      }
      keys.put(key)
      options.log(`${by} made the API key ${key.name} (${key.scopes.join(', ')})`)
      return { key: view(key), secret }
    },

    remove(name, by) {
      const key = keys.get(name)
      if (!key) throw new BerthError('NOT_FOUND', `There is no API key ${name}; see: berth keys`, { key: name })
      if (options.required && isAdmin(key) && !isExpired(key, nowMs())) checkOthers(name, keys, nowMs())
      if (name === adminKeyName) giveUpAdminKey(options.adminKey)
      keys.remove(name)
      options.log(`${by} removed the API key ${name}`)
      options.onRemoved(`key:${name}`)
    },
  }
}

function view({ hash: _hash, ...key }: StoredKey): KeyView {
  return key
}

function checkWish({ name, scopes, models }: KeyWish, keys: StoredKeys): void {
  if (name === adminKeyName) {
    throw invalid('name', `${name} is the name of the key that Berth itself is started with: choose another one.`)
  }
  if (keys.get(name))
    throw invalid('name', `There is an API key ${name} already: choose another name, or remove it first.`)
  if (models !== undefined && scopes.includes('admin')) {
    throw invalid('models', 'A key with the scope admin may use every model: leave out `models`, or the scope.')
  }
}

const isoTime = /^\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/

function readExpiry(text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined
  const ms = isoTime.test(text) && isDay(text.slice(0, 10)) ? Date.parse(text) : Number.NaN
  if (Number.isNaN(ms)) {
    throw invalid('expiresAt', `\`expiresAt\` is no time such as 2030-01-31T12:00:00Z (ISO 8601, with its time zone).`)
  }
  if (ms <= nowMs) throw invalid('expiresAt', `\`expiresAt\` (${text}) is in the past.`)
  return new Date(ms).toISOString()
}

/** `Date.parse` takes the 30th of February as a day in March. */
function isDay(day: string): boolean {
  const ms = Date.parse(day)
  return !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(day)
}

/** Nobody locks everybody out by a slip: one key that may make others stays. */
function checkOthers(name: string, keys: StoredKeys, nowMs: number): void {
  const others = keys.list().some((key) => key.name !== name && isAdmin(key) && !isExpired(key, nowMs))
  if (others) return
  throw new BerthError(
    'FORBIDDEN',
    `The API key ${name} is the last one with the scope admin: without it nobody could make or remove keys any more.`,
    { key: name, remedy: 'Make another one first: `berth keys add NAME --scope admin`.' },
  )
}

/** The key `admin` would be back after the next start. */
function giveUpAdminKey(adminKey: KeyServiceOptions['adminKey']): void {
  if ('variable' in adminKey) {
    throw new BerthError(
      'FORBIDDEN',
      `The API key ${adminKeyName} comes from ${adminKey.variable} and would be back after the next start.`,
      {
        key: adminKeyName,
        remedy: `Change ${adminKey.variable} and start Berth again: the old key stops working then.`,
      },
    )
  }
  rmSync(adminKey.file, { force: true })
}

function invalid(field: string, message: string): BerthError {
  return new BerthError('REQUEST_INVALID', message, { in: 'body', field })
}
