import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { isAdmin, isExpired, type KeyScope } from '../../domain/api-key.ts'
import { BerthError } from '../../domain/errors.ts'
import { lowerPriority, type Priority } from '../../domain/priority.ts'
import type { StoredKey, StoredKeys } from '../../store/keys.ts'
import { hashKey } from './keys.ts'

/**
 * Who may use a route where keys are on. `open`: anybody; else keys with that scope, and those with the scope `admin` (the
 * default). A route says it as `config: { access: 'infer' }`.
 */
export type Access = 'open' | KeyScope

/** Who asks: what fair queueing and logs tell callers apart by. */
export interface Caller {
  /** `key:<name>`, or `address:<client's address>` where there are no keys. */
  readonly id: string
  /** May do everything and see everything, as everybody may where there are no keys. */
  readonly admin: boolean
  readonly key?: {
    readonly name: string
    readonly scopes: readonly KeyScope[]
    readonly priority: Priority
    /** Undefined: all. */
    readonly models: readonly string[] | undefined
    /** ISO 8601; undefined: never. */
    readonly expiresAt: string | undefined
  }
}

/** What a request of this caller has: a key's priority is its requests' own, and the most that they can ask for. */
export function priorityOf({ admin, key }: Caller, asked: Priority | undefined): Priority {
  if (!key || admin) return asked ?? key?.priority ?? 'normal'
  return lowerPriority(asked ?? key.priority, key.priority)
}

/** Whether the caller may use a model that it asks for by `name`; `model` is the one that an alias leads to. */
export function mayUse({ key }: Caller, name: string, model: string = name): boolean {
  return key?.models === undefined || key.models.includes(name) || key.models.includes(model)
}

/** The answer where it may not, which says nothing of whether there is such a model. */
export function modelForbidden({ key }: Caller, model: string): BerthError {
  return new BerthError('FORBIDDEN', `The API key ${key?.name} may not use model ${model}.`, {
    model,
    models: key?.models ?? [],
    remedy: 'Use one of its models, or a key that may use this one: `berth keys` lists keys with their models.',
  })
}

/** Answers who sent a request, or throws UNAUTHORIZED or FORBIDDEN. Never called for routes that are open. */
export interface Authenticator {
  authenticate(headers: IncomingHttpHeaders, address: string, access: KeyScope): Caller
}

/** For `auth: none`: everybody who reaches the address (`host-check.ts` holds strangers off). */
export function noKeys(): Authenticator {
  return { authenticate: (_headers, address) => ({ id: `address:${address}`, admin: true }) }
}

/** For `auth: keys`: `Authorization: Bearer KEY` or `x-api-key: KEY`. */
export function withKeys(keys: Pick<StoredKeys, 'find'>, nowMs: () => number = Date.now): Authenticator {
  return {
    authenticate(headers, _address, access) {
      const secret = presentedKey(headers)
      if (secret === undefined) {
        throw new BerthError('UNAUTHORIZED', 'This Berth needs an API key and the request has none.', {
          remedy: 'Send `Authorization: Bearer KEY` or `x-api-key: KEY`; the berth command takes it from BERTH_KEY.',
        })
      }
      const hash = hashKey(secret)
      const record = keys.find(hash)
      if (record === undefined || !sameHash(record.hash, hash)) {
        throw new BerthError(
          'UNAUTHORIZED',
          'The API key of the request is not known here: it is wrong or was removed.',
          {
            remedy: 'Use the key in the admin.key file of the data folder, or one made with `berth keys add`.',
          },
        )
      }
      const { name, scopes, priority, models, expiresAt } = record
      if (isExpired(record, nowMs())) {
        throw new BerthError('UNAUTHORIZED', `The API key ${name} expired at ${expiresAt}.`, {
          expiresAt,
          remedy: 'Have another one made: `berth keys add NAME`.',
        })
      }
      const admin = isAdmin(record)
      if (!admin && !scopes.includes(access)) throw scopeMissing(record, access)
      return { id: `key:${name}`, admin, key: { name, scopes, priority, models, expiresAt } }
    },
  }
}

function scopeMissing({ name, scopes }: StoredKey, needed: KeyScope): BerthError {
  return new BerthError('FORBIDDEN', `The API key ${name} may not do this: it needs the scope ${needed}.`, {
    needs: needed,
    scopes,
    remedy: `Use a key with the scope ${needed}.`,
  })
}

function presentedKey(headers: IncomingHttpHeaders): string | undefined {
  const bearer = /^Bearer +(\S+)\s*$/i.exec(headers.authorization ?? '')?.[1]
  const header = headers['x-api-key']
  return bearer ?? (typeof header === 'string' && header !== '' ? header : undefined)
}

function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}
