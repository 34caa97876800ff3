import { CommanderError } from 'commander'
import { createClient } from './client.ts'
import type { Context, GlobalOptions } from './context.ts'
import { exitCodes, UsageError } from './failures.ts'
import { createOutput, type Output } from './output.ts'
import { buildProgram } from './program.ts'
import { describeError } from './report-error.ts'
import { findTarget } from './target.ts'

/** Runs one command to its end; resolves with the exit code. `mainFile`: the orchestrator's program. */
export async function run(args: readonly string[], mainFile: string): Promise<number> {
  const out = createOutput(process.stdout, process.stderr)
  const signals = listenToSignals()
  let options: GlobalOptions = {}
  let code: number = exitCodes.ok
  try {
    const target = await findTarget(process.env, process.cwd())
    const context: Context = {
      api: createClient(target.url, target.key),
      target,
      out,
      env: process.env,
      cwd: userFolder(),
      stdin: process.stdin,
      signal: signals.signal,
      releaseSignals: signals.release,
      setExitCode(ending) {
        code = ending
      },
      mainFile,
    }
    const program = buildProgram(context)
    options = program.opts<GlobalOptions>()
    program.hook('preAction', () => {
      options = program.opts<GlobalOptions>()
    })
    await program.parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    return exitCodeOf(error, out, signals, options.verbose === true)
  } finally {
    out.clearStatus()
    signals.release()
  }
}

function exitCodeOf(error: unknown, out: Output, signals: Signals, verbose: boolean): number {
  if (error instanceof CommanderError) {
    // Commander has already written what there is to say.
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage
  }
  if (signals.signal.aborted) return signals.exitCode()
  out.note(describeError(error, verbose))
  return error instanceof UsageError ? exitCodes.usage : exitCodes.failed
}

interface Signals {
  readonly signal: AbortSignal
  exitCode(): number
  release(): void
}

/** Ctrl-C ends what is under way by closing its connection, which cancels it in Berth; a second one ends at once. */
function listenToSignals(): Signals {
  const controller = new AbortController()
  let code: number = exitCodes.ok
  const end = (exitCode: number) => () => {
    if (controller.signal.aborted) process.exit(exitCode)
    code = exitCode
    controller.abort()
  }
  const interrupt = end(exitCodes.interrupted)
  const terminate = end(143)
  // `berth logs -f m | head`: the reader has what it wanted, and that is no failure.
  const closed = (error: NodeJS.ErrnoException): void => {
    if (error.code !== 'EPIPE') throw error
    controller.abort()
  }
  process.on('SIGINT', interrupt)
  process.on('SIGTERM', terminate)
  process.stdout.on('error', closed)
  process.stderr.on('error', closed)
  return {
    signal: controller.signal,
    exitCode: () => code,
    release() {
      process.off('SIGINT', interrupt)
      process.off('SIGTERM', terminate)
    },
  }
}

/** npm runs scripts in the package's folder; where its user stood, it says in INIT_CWD. */
function userFolder(): string {
  return (process.env.npm_lifecycle_event === 'berth' && process.env.INIT_CWD) || process.cwd()
}
