import { BerthError } from '../domain/errors.ts'
import { isJsonObject } from '../domain/json.ts'
import type { PrepareProgress } from './engine.ts'

/** What an installer (module-runner/server/install.ts) says, wherever it runs: progress on the way, and why it failed. */
export interface InstallEnd {
  readonly module: string
  /** The requirements file, where there is one. */
  readonly file: string | undefined
  readonly remedy: string
  /** How it ended: `exit code 1`, `SIGKILL`. */
  readonly ended: string
  /** Set when it was ended for taking longer. */
  readonly timeoutMs?: number
}

const keptLines = 40

export class InstallerOutput {
  readonly #key: string
  readonly #report: (progress: PrepareProgress) => void
  readonly #lines: string[] = []
  #said: InstallerLine['failure']

  constructor(key: string, report: (progress: PrepareProgress) => void) {
    this.#key = key
    this.#report = report
  }

  /** A line of its output. */
  push(text: string): void {
    const { failure, progress, line } = parseLine(text)
    if (failure !== undefined) this.#said = failure
    else if (progress !== undefined) this.#report({ phase: 'environment', environmentKey: this.#key, ...progress })
    else if (line !== undefined && line.trim() !== '') {
      this.#lines.push(line)
      if (this.#lines.length > keptLines) this.#lines.shift()
      this.#report({ phase: 'environment', message: line, line, environmentKey: this.#key })
    }
  }

  /** REQUIREMENTS_FAILED with the last lines. */
  failure({ module, file, remedy, ended, timeoutMs }: InstallEnd): BerthError {
    const said = this.#said
    const why =
      timeoutMs === undefined
        ? (said?.message ?? `the installer ended with ${ended}`)
        : `they were not installed within ${Math.round(timeoutMs / 1000)} s`
    return new BerthError('REQUIREMENTS_FAILED', `The requirements of module ${module} can't be installed: ${why}`, {
      module,
      ...(file === undefined ? {} : { file }),
      lines: said === undefined || said.lines.length === 0 ? this.#lines : said.lines,
      remedy:
        timeoutMs === undefined
          ? remedy
          : 'raise `timeouts.install` in module.yaml, or see why the packages come slowly',
    })
  }
}

interface InstallerLine {
  readonly line?: string
  readonly progress?: { readonly message: string; readonly current?: number; readonly total?: number }
  readonly failure?: { readonly message: string; readonly lines: readonly string[] }
}

/** A line of the installer: LogOutput, InstallProgress or InstallFailure of protocol.ts; anything else is itself. */
export function parseLine(text: string): InstallerLine {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { line: text }
  }
  if (!isJsonObject(value)) return { line: text }
  const { progress, failure, message } = value
  if (isJsonObject(progress) && typeof progress.message === 'string') {
    const { current, total } = progress
    return {
      progress: {
        message: progress.message,
        ...(typeof current === 'number' ? { current } : {}),
        ...(typeof total === 'number' ? { total } : {}),
      },
    }
  }
  if (isJsonObject(failure) && typeof failure.message === 'string') {
    const lines = Array.isArray(failure.lines) ? failure.lines.map(String) : []
    return { failure: { message: failure.message, lines } }
  }
  return { line: typeof message === 'string' ? message : text }
}
