import { RunnerError } from '../errors.ts'

/** How a worker's process ended, and what that means for whoever waited for it. */
export interface WorkerExit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  /** The kernel killed it for memory. */
  readonly outOfMemory: boolean
  /** The last lines that it printed. */
  readonly lines: readonly string[]
}

const known: Partial<Record<NodeJS.Signals, string>> = {
  SIGSEGV: 'a memory access error, usually in native code of a Python package',
  SIGABRT: 'an abort, usually in native code of a Python package',
  SIGILL: 'an instruction that this processor does not have: a Python package was built for another processor',
  SIGBUS: 'a bus error; shared memory may be too small',
  SIGFPE: 'an arithmetic error in native code',
  SIGKILL: 'somebody killed it, or it closed its connection to the runner',
}

export function exitError(module: string, exit: WorkerExit): RunnerError {
  const lines = exit.lines.length === 0 ? {} : { lines: exit.lines }
  if (exit.outOfMemory) {
    return new RunnerError(
      'OUT_OF_MEMORY',
      `Module ${module} ran out of memory and was killed by the kernel; give it more with resources.memory in its module.yaml.`,
      { module, signal: 'SIGKILL', remedy: 'raise resources.memory in module.yaml, or load a smaller model', ...lines },
    )
  }
  if (exit.signal !== null) {
    const meaning = known[exit.signal]
    return new RunnerError(
      'WORKLOAD_EXITED',
      `The worker of module ${module} ended by signal ${exit.signal}${meaning === undefined ? '' : ` (${meaning})`}; its models have to be loaded again.`,
      { module, signal: exit.signal, ...lines },
    )
  }
  return new RunnerError(
    'WORKLOAD_EXITED',
    `The worker of module ${module} ended with exit code ${exit.code ?? 'unknown'}; its models have to be loaded again.`,
    { module, exitCode: exit.code, ...lines },
  )
}
