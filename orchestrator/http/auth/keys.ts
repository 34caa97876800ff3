import { createHash, randomBytes } from 'node:crypto'

/**
 * Secrets of API keys. They have 256 random bits, so a plain SHA-256 keeps them; a secret itself is never stored or logged.
 */
export function hashKey(secret: string): string {
  return createHash('sha256').update(secret, 'utf8').digest('hex')
}

/** A new secret: `berth_` and 43 characters that need no quoting anywhere. */
export function makeKey(): string {
  return `berth_${randomBytes(32).toString('base64url')}`
}
