import { randomUUID } from 'node:crypto'
import type { FastifyRequest } from 'fastify'

const limit = 128

/**
 * The id of a request: the caller's own `X-Request-Id` without anything that could break a log line or a header, cut at
 * 128 characters, or a new UUID where there is none.
 */
export function makeRequestId(header: string | readonly string[] | undefined): string {
  if (typeof header === 'string') {
    const clean = header.replace(/[^\w.:@/+=~-]/g, '').slice(0, limit)
    if (clean !== '') return clean
  }
  return randomUUID()
}

export function requestId(request: FastifyRequest): string {
  return request.id
}
