import { errors } from 'undici'
import { BerthError } from '../domain/errors.ts'

/** The connection to a runner could not be made, or broke before anything had come back. */
export function unreachable(module: string, error: unknown): BerthError {
  const reason = error instanceof Error ? error.message : String(error)
  const words = error instanceof errors.SocketError ? 'its connection broke' : reason
  const message = `The runner of module ${module} can't be reached (${words}); see: berth logs ${module}`
  // `connected: false`: nothing has been sent, so nothing can have been begun.
  const details = isConnectFailure(error) ? { module, connected: false } : { module }
  return new BerthError('RUNNER_UNREACHABLE', message, details, { cause: error })
}

function isConnectFailure(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'connect'
}

/** A stream ended without its terminal frame. */
export function interrupted(module: string, cause?: Error): BerthError {
  return new BerthError(
    'STREAM_INTERRUPTED',
    `The stream of module ${module} broke off before its end; see: berth logs ${module}`,
    { module },
    cause ? { cause, origin: 'module' } : { origin: 'module' },
  )
}

/** The runner's 401 is about the orchestrator's token, never about a caller's key. */
export function refusedToken(module: string): BerthError {
  const message = `The runner of module ${module} refuses the orchestrator's token.`
  return new BerthError('RUNNER_PROTOCOL', message, { module, refused: 'token' })
}

/** What answers is not the runner that was started: another one has its address by now. It would refuse everything. */
export function isStranger(error: BerthError): boolean {
  return error.code === 'RUNNER_PROTOCOL' && error.origin === 'orchestrator' && error.details.refused === 'token'
}
