import type { ApiClient } from './client.ts'
import type { Output } from './output.ts'
import type { Environment, Target } from './target.ts'

/** What a command is given to work with. */
export interface Context {
  readonly api: ApiClient
  readonly target: Target
  readonly out: Output
  readonly env: Environment
  /** Folder that paths on the command line start from. */
  readonly cwd: string
  readonly stdin: NodeJS.ReadStream
  /** Aborted by Ctrl-C, SIGTERM and a reader of standard output that went away. */
  readonly signal: AbortSignal
  /** From now on the command handles signals itself. */
  releaseSignals(): void
  /** With which code the command ends when nothing is thrown. */
  setExitCode(code: number): void
  /** The orchestrator's program. */
  readonly mainFile: string
}

/** Options that every command takes. */
export interface GlobalOptions {
  readonly json?: true
  readonly verbose?: true
}
