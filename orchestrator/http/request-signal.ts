import type { FastifyReply } from 'fastify'
import { BerthError } from '../domain/errors.ts'

/**
 * Signals that end with their client: aborted with CLIENT_CLOSED when the connection closes before the answer is complete,
 * with SHUTTING_DOWN when the server closes. (Fastify's own `request.signal` already aborts when a body has been read.)
 */
export interface RequestSignals {
  of(reply: FastifyReply): AbortSignal
  /** Ends what this caller's requests wait for or follow: its key is no more. */
  abortOf(caller: string): void
  /** Ends every answer under way. */
  abortAll(): void
}

export function createRequestSignals(): RequestSignals {
  const open = new Map<AbortController, string>()
  let closed = false
  const clientClosed = (): BerthError =>
    new BerthError('CLIENT_CLOSED', 'The client closed the connection before its answer was complete.')
  const keyExpired = (): BerthError => new BerthError('UNAUTHORIZED', 'The API key of this request has expired.')
  const keyRemoved = (): BerthError => new BerthError('UNAUTHORIZED', 'The API key of this request was removed.')
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
      open.set(controller, reply.request.caller.id)
      const stopWaiting = whenReached(reply.request.caller.key?.expiresAt, () => controller.abort(keyExpired()))
      reply.raw.once('close', () => {
        stopWaiting()
        open.delete(controller)
        if (!reply.raw.writableFinished) controller.abort(clientClosed())
      })
      return controller.signal
    },
    abortOf(caller) {
      for (const [controller, by] of open) if (by === caller) controller.abort(keyRemoved())
    },
    abortAll() {
      closed = true
      for (const controller of open.keys()) controller.abort(shuttingDown())
      open.clear()
    },
  }
}

/** A longer timer would fire at once: 24 days. */
const longestTimerMs = 2_147_483_647

/** Calls back at this time of the machine's clock; the answer cancels it. */
function whenReached(time: string | undefined, callback: () => void): () => void {
  if (time === undefined) return () => {}
  let timer: NodeJS.Timeout
  const wait = (): void => {
    const ms = Date.parse(time) - Date.now()
    timer = ms <= 0 ? setTimeout(callback) : setTimeout(wait, Math.min(ms, longestTimerMs))
    timer.unref()
  }
  wait()
  return () => clearTimeout(timer)
}
