import type { PrepareProgress } from '../engine.ts'
import { InstallerOutput } from '../installer-output.ts'
import { ChildGroup, type ChildGroupOptions } from './child-group.ts'

/** One run of the installer (module-runner/server/install.ts) as a child: its lines as progress, its end as an outcome. */
export interface InstallRun {
  readonly module: string
  readonly key: string
  readonly timeoutMs: number
  readonly child: Omit<ChildGroupOptions, 'onLine'>
  /** Told to people together with a failure. */
  readonly remedy: string
  /** The requirements file, for the error. */
  readonly file: string | undefined
}

/**
 * Resolves when the installer has ended well. Rejects with REQUIREMENTS_FAILED (details: module, file, lines, remedy), or
 * with `signal.reason` once the installer and everything that it started is gone.
 */
export async function runInstaller(
  run: InstallRun,
  signal: AbortSignal,
  report: (progress: PrepareProgress) => void,
): Promise<void> {
  signal.throwIfAborted()
  const output = new InstallerOutput(run.key, report)
  const onLine = (_stream: 'stdout' | 'stderr', text: string): void => output.push(text)

  const group = await ChildGroup.start({ ...run.child, onLine })
  let timedOut = false
  const onAbort = (): void => void group.end(0)
  const timer =
    run.timeoutMs <= 2_147_483_647
      ? setTimeout(() => {
          timedOut = true
          void group.end(0)
        }, run.timeoutMs)
      : undefined
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    const exit = await group.exited
    await group.gone
    signal.throwIfAborted()
    if (exit.code === 0 && !timedOut) return
    throw output.failure({
      module: run.module,
      file: run.file,
      remedy: run.remedy,
      ended: exit.signal ?? `exit code ${exit.code}`,
      ...(timedOut ? { timeoutMs: run.timeoutMs } : {}),
    })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}
