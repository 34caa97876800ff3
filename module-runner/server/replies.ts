import type { Reply } from '../plain-http/reply.ts'
import { RunnerError } from './errors.ts'

/** A signal that aborts when the caller leaves before its answer is complete. */
export function callerLeft(response: Reply): AbortSignal {
  const controller = new AbortController()
  const leave = () => {
    if (!response.writableFinished) controller.abort(new RunnerError('CLIENT_CLOSED', 'The caller left.'))
  }
  if (response.destroyed) leave()
  else response.once('close', leave)
  return controller.signal
}

/** The line that ends a stream with an error, and the body of an error. */
export function errorLine(error: RunnerError): string {
  return `${JSON.stringify({ error: error.toWire() })}\n`
}

/** Answers an error outside of the framework's own handling. */
export function sendError(response: Reply, error: RunnerError): void {
  sendErrorLine(response, error.status, errorLine(error))
}

export function sendErrorLine(response: Reply, status: number, line: Buffer | string): void {
  if (response.headersSent || response.destroyed) return
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(line) })
  response.end(line)
}
