import type { FastifyReply } from 'fastify'
import { BerthError } from '../domain/errors.ts'

/**
 * Signals that end with their client: aborted with CLIENT_CLOSED when the connection closes before the answer is complete,
 * with SHUTTING_DOWN when the server closes. (Fastify's own `request.signal` already aborts when a body has been read.)
 */
export interface RequestSignals {
  of(reply: FastifyReply): AbortSignal
  /** Ends every answer under way. */
  abortAll(): void
}

export function createRequestSignals(): RequestSignals {
  const open = new Set<AbortController>()
  let closed = false
  const clientClosed = (): BerthError =>
    new BerthError('CLIENT_CLOSED', 'The client closed the connection before its answer was complete.')
  const shuttingDown = (): BerthError => new BerthError('SHUTTING_DOWN', 'Berth is shutting down.')

  return {
    of(reply) {
      const controller = new AbortController()
      if (closed) {
        controller.abort(shuttingDown())
        return controller.signal
      }
      if (reply.raw.destroyed) {
        controller.abort(clientClosed())
        return controller.signal
      }
      open.add(controller)
      reply.raw.once('close', () => {
        open.delete(controller)
        if (!reply.raw.writableFinished) controller.abort(clientClosed())
      })
      return controller.signal
    },
    abortAll() {
      closed = true
      for (const controller of open) controller.abort(shuttingDown())
      open.clear()
    },
  }
}
