import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import { text } from 'node:stream/consumers'
import type { Context } from './context.ts'
import { CliError } from './failures.ts'

/**
 * Runs the orchestrator's program in this terminal; resolves with its exit code. A terminal sends Ctrl-C to both; what
 * comes from elsewhere is passed on, and only the program decides when it ends.
 */
export function runInForeground(context: Context): Promise<number> {
  context.releaseSignals()
  const child = spawn(process.execPath, [context.mainFile], { stdio: 'inherit' })
  const passOn = (signal: NodeJS.Signals): void => {
    child.kill(signal)
  }
  const interrupted = (): void => {
    if (!process.stdin.isTTY) passOn('SIGINT')
  }
  process.on('SIGINT', interrupted)
  process.on('SIGTERM', passOn)
  process.on('SIGHUP', passOn)
  return ended(child).finally(() => {
    process.off('SIGINT', interrupted)
    process.off('SIGTERM', passOn)
    process.off('SIGHUP', passOn)
  })
}

/** The exit code as a shell counts it: 128 and the signal's number for a program that a signal ended. */
export function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])))
  })
}

/** Runs the orchestrator's program for one answer; resolves with what it wrote to standard output. */
export async function outputOf({ mainFile, signal }: Context, args: readonly string[]): Promise<string> {
  // Of its log only what is wrong: the answer is what was asked for.
  const env = { BERTH_LOG_LEVEL: 'error', ...process.env }
  const child = spawn(process.execPath, [mainFile, ...args], { stdio: ['ignore', 'pipe', 'inherit'], signal, env })
  const [output, code] = await Promise.all([text(child.stdout), ended(child)])
  if (code !== 0) throw new CliError(`the orchestrator's program ended with exit code ${code}`)
  return output
}
