import { execFile } from 'node:child_process'

export interface CommandResult {
  /** undefined when the program is not there. */
  readonly code: number | undefined
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end or for `timeoutMs`; a program that is missing or fails is an answer, not an error. */
export function runCommand(
  file: string,
  args: readonly string[],
  options: { readonly timeoutMs: number; readonly signal: AbortSignal; readonly env?: NodeJS.ProcessEnv },
): Promise<CommandResult> {
  return new Promise((resolve) => {
    const { timeoutMs: timeout, signal, env } = options
    execFile(file, args, { timeout, signal, ...(env ? { env } : {}) }, (error, stdout, stderr) => {
      if (error === null) return resolve({ code: 0, stdout, stderr })
      if (error.code === 'ENOENT') return resolve({ code: undefined, stdout, stderr })
      const reason = error.killed ? `${stderr}no answer within ${timeout / 1000} s` : stderr
      resolve({ code: typeof error.code === 'number' ? error.code : 1, stdout, stderr: reason })
    })
  })
}
