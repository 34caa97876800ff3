import { timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import { BerthError } from '../../domain/errors.ts'
import { lowerPriority, type Priority } from '../../domain/priority.ts'
import { hashKey, type KeyStore, type Scope } from './keys.ts'

/**
 * Who may use a route where keys are on. `open`: anybody; `infer`: every valid key; `admin` (the default): keys with that
 * scope. A route says it as `config: { access: 'infer' }`.
 */
export type Access = 'open' | 'infer' | 'admin'

/** Who asks: what fair queueing and logs tell callers apart by. */
export interface Caller {
  /** `key:<name>`, or `address:<client's address>` where there are no keys. */
  readonly id: string
  /** May do everything and see everything, as everybody may where there are no keys. */
  readonly admin: boolean
  readonly key?: { readonly name: string; readonly scopes: readonly Scope[]; readonly priority: Priority }
}

/** What a request of this caller has: a key's priority is its requests' own, and the most that they can ask for. */
export function priorityOf({ key }: Caller, asked: Priority | undefined): Priority {
  if (!key) return asked ?? 'normal'
  return lowerPriority(asked ?? key.priority, key.priority)
}

/** Answers who sent a request, or throws UNAUTHORIZED or FORBIDDEN. Never called for routes that are open. */
export interface Authenticator {
  authenticate(headers: IncomingHttpHeaders, address: string, access: Access): Caller
}

/** For `auth: none`: everybody who reaches the address (`host-check.ts` holds strangers off). */
export function noKeys(): Authenticator {
  return { authenticate: (_headers, address) => ({ id: `address:${address}`, admin: true }) }
}

/** For `auth: keys`: `Authorization: Bearer KEY` or `x-api-key: KEY`. */
export function withKeys(keys: KeyStore): Authenticator {
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
        throw new BerthError('UNAUTHORIZED', 'The API key of the request is not known here.', {
          remedy: 'Use the key in the admin.key file of the data folder, or the one that Berth was started with.',
        })
      }
      if (access === 'admin' && !record.scopes.includes('admin')) {
        throw new BerthError('FORBIDDEN', `The API key ${record.name} may not do this: it needs the scope admin.`, {
          scopes: record.scopes,
          remedy: 'Use a key with the scope admin.',
        })
      }
      const { name, scopes } = record
      return { id: `key:${name}`, admin: scopes.includes('admin'), key: { name, scopes, priority: 'normal' } }
    },
  }
}

function presentedKey(headers: IncomingHttpHeaders): string | undefined {
  const bearer = /^Bearer +(\S+)\s*$/i.exec(headers.authorization ?? '')?.[1]
  const header = headers['x-api-key']
  return bearer ?? (typeof header === 'string' && header !== '' ? header : undefined)
}

function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}
