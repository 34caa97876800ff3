import { createHash, randomBytes } from 'node:crypto'

/**
 * API keys. The secret has 256 random bits, so a plain SHA-256 keeps it; the secret itself is never stored or logged.
 */
export type Scope = 'admin' | 'infer'

/** What is kept of a key. `admin` may do everything, `infer` may use models and see what there is. */
export interface KeyRecord {
  /** Unique among the keys. */
  readonly name: string
  /** `hashKey` of the secret: SHA-256 in lower-case hexadecimal. */
  readonly hash: string
  readonly scopes: readonly Scope[]
  /** ISO 8601. */
  readonly createdAt: string
}

/** Where keys are kept. `find` is asked on every request, so it answers from memory or from an index. */
export interface KeyStore {
  find(hash: string): KeyRecord | undefined
  /** Adds the key, or replaces the one of the same name. Durable once it returns. */
  put(record: KeyRecord): void
}

export function hashKey(secret: string): string {
  return createHash('sha256').update(secret, 'utf8').digest('hex')
}

/** A new secret: `berth_` and 43 characters that need no quoting anywhere. */
export function makeKey(): string {
  return `berth_${randomBytes(32).toString('base64url')}`
}
