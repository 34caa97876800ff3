import { BerthError } from '../../orchestrator/domain/errors.ts'

/** The BerthError that the work throws or rejects with. */
export async function caught(work: () => unknown): Promise<BerthError> {
  try {
    await work()
  } catch (error) {
    if (error instanceof BerthError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}
