import { execFile } from 'node:child_process'

/** A short program's outcome: every question to the machine is bounded, and none of them throws. */
export interface ProgramResult {
  readonly ok: boolean
  readonly stdout: string
  /** What went wrong, for people: the program's own words where it had any. */
  readonly problem: string
}

export interface ProgramOptions {
  readonly timeoutMs: number
  readonly env: Readonly<Record<string, string>>
  readonly signal?: AbortSignal
}

export function runProgram(file: string, args: readonly string[], options: ProgramOptions): Promise<ProgramResult> {
  return new Promise((resolve) => {
    execFile(
      file,
      [...args],
      {
        timeout: options.timeoutMs,
        killSignal: 'SIGKILL',
        env: { ...options.env },
        maxBuffer: 4 * 1024 * 1024,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
      (error, stdout, stderr) => {
        const said = stderr.trim().split('\n').slice(-5).join('\n')
        const problem = error === null ? '' : said === '' ? error.message : said
        resolve({ ok: error === null, stdout, problem })
      },
    )
  })
}
