import { type ChildProcess, spawn } from 'node:child_process'
import { constants } from 'node:os'
import type { Context } from './context.ts'

/**
 * Runs the orchestrator's program in this terminal; resolves with its exit code. A terminal sends Ctrl-C to both; what
 * comes from elsewhere is passed on, and only the program decides when it ends.
 */
export function runInForeground(context: Context, args: readonly string[]): Promise<number> {
  context.releaseSignals()
  const child = spawn(process.execPath, [context.mainFile, ...args], { stdio: 'inherit' })
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
