import { errors } from 'undici'
import { BerthError } from '../domain/errors.ts'

/** The connection to a runner could not be made, or broke before anything had come back. */
export function unreachable(module: string, error: unknown): BerthError {
  const reason = error instanceof Error ? error.message : String(error)
  const words = error instanceof errors.SocketError ? 'its connection broke' : reason
  const message = `The runner of module ${module} can't be reached (${words}); see: berth logs ${module}`
  return new BerthError('RUNNER_UNREACHABLE', message, { module }, { cause: error })
}
