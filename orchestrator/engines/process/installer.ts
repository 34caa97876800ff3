import { BerthError } from '../../domain/errors.ts'
import { isJsonObject } from '../../domain/json.ts'
import type { PrepareProgress } from '../engine.ts'
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

const keptLines = 40

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
  const lines: string[] = []
  let failure: { readonly message: string; readonly lines: readonly string[] } | undefined
  const note = (line: string): void => {
    lines.push(line)
    if (lines.length > keptLines) lines.shift()
    report({ phase: 'environment', message: line, line, environmentKey: run.key })
  }
  const onLine = (_stream: 'stdout' | 'stderr', text: string): void => {
    const said = parseLine(text)
    if (said.failure !== undefined) failure = said.failure
    else if (said.progress !== undefined) {
      report({ phase: 'environment', environmentKey: run.key, ...said.progress })
    } else if (said.line !== undefined && said.line.trim() !== '') note(said.line)
  }

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
    const why = timedOut
      ? `they were not installed within ${Math.round(run.timeoutMs / 1000)} s`
      : (failure?.message ?? `the installer ended with ${exit.signal ?? `exit code ${exit.code}`}`)
    throw new BerthError('REQUIREMENTS_FAILED', `The requirements of module ${run.module} can't be installed: ${why}`, {
      module: run.module,
      ...(run.file === undefined ? {} : { file: run.file }),
      lines: failure === undefined || failure.lines.length === 0 ? lines : failure.lines,
      remedy: timedOut ? 'raise `timeouts.install` in module.yaml, or see why the packages come slowly' : run.remedy,
    })
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
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
