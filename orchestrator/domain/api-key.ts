import type { Priority } from './priority.ts'

/**
 * `admin`: everything. `infer`: use models, and see those that may be used. `metrics`: read the figures, for a Prometheus that
 * must not be able to do more.
 */
export const keyScopes = ['admin', 'infer', 'metrics'] as const

export type KeyScope = (typeof keyScopes)[number]

/** The key that Berth itself makes or is started with. */
export const adminKeyName = 'admin'

/** An API key without what it is recognised by. */
export interface KeyView {
  /** Unique among the keys. */
  readonly name: string
  readonly scopes: readonly KeyScope[]
  /** Models that it may use, by the names that clients ask for; absent: all. */
  readonly models?: readonly string[]
  /** What its requests have where they wait, and the most that they can ask for. */
  readonly priority: Priority
  /** ISO 8601; absent: never. */
  readonly expiresAt?: string
  /** ISO 8601. */
  readonly createdAt: string
}

export function isExpired({ expiresAt }: Pick<KeyView, 'expiresAt'>, nowMs: number): boolean {
  return expiresAt !== undefined && Date.parse(expiresAt) <= nowMs
}

export function isAdmin({ scopes }: Pick<KeyView, 'scopes'>): boolean {
  return scopes.includes('admin')
}
