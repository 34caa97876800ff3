/** Exit codes of the command: 0 ok, 1 failed, 2 usage, 130 ended by Ctrl-C. */
export const exitCodes = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** A failure that the command itself found; failures of the orchestrator are BerthErrors. */
export class CliError extends Error {
  override readonly name: string = 'CliError'
  readonly remedy: string | undefined

  constructor(message: string, remedy?: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.remedy = remedy
  }
}

/** The command was written wrong: exit code 2. */
export class UsageError extends CliError {
  override readonly name = 'UsageError'
}

/** Nothing answers where the orchestrator should be. */
export class UnreachableError extends CliError {
  override readonly name = 'UnreachableError'
}

/** The orchestrator, or the way to it, went away in the middle of an answer. */
export class BrokenConnectionError extends CliError {
  override readonly name = 'BrokenConnectionError'
}
