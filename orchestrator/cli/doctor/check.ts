/** One thing that Berth needs or can use. `warn`: something works less well or not at all without it. */
export interface Check {
  readonly name: string
  readonly level: 'ok' | 'warn' | 'fail'
  /** What was found, and what that means. */
  readonly message: string
  /** What to do about it. */
  readonly remedy?: string
}
