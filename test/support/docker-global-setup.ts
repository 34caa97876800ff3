import { dockerAvailable } from './docker.ts'
import { removeInstances } from './docker-cleanup.ts'

/** Before the tests: what dead runs left behind goes. After them: everything of this run. */
export async function setup(): Promise<void> {
  process.env.BERTH_TEST_RUN = String(process.pid)
  if (dockerAvailable) await removeInstances((instance) => /^test-\d+-/.test(instance) && !isAlive(runOf(instance)))
}

export async function teardown(): Promise<void> {
  if (dockerAvailable) await removeInstances((instance) => runOf(instance) === process.pid)
}

const runOf = (instance: string): number => Number(/^test-(\d+)-/.exec(instance)?.[1] ?? Number.NaN)

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
