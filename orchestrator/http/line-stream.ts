import { once } from 'node:events'
import type { FastifyReply } from 'fastify'
import { toBerthError } from '../domain/errors.ts'
import { errorJson } from './errors.ts'

/** How records go out one by one: NDJSON, or server-sent events for those who ask for them. */
export type LineFormat = 'ndjson' | 'sse'

export function lineFormat(accept: string | undefined): LineFormat {
  return accept?.includes('text/event-stream') === true ? 'sse' : 'ndjson'
}

const heartbeatMs = 15_000

export interface LineStreamOptions<T> {
  readonly format: LineFormat
  readonly signal: AbortSignal
  /** Sent as the event's `id:`, from which a client resumes. */
  readonly id?: (record: T) => number | undefined
  /** A client that takes nothing for so long is dropped; it may come back and resume. Milliseconds. */
  readonly stalledMs?: number
}

/**
 * Sends records until they end, the client leaves or the server closes. Headers go out at once; a client that reads slowly
 * holds the reading up. An error on the way becomes a last record `{"error":{...}}`.
 */
export async function sendRecords<T>(
  reply: FastifyReply,
  records: AsyncIterable<T>,
  options: LineStreamOptions<T>,
): Promise<FastifyReply> {
  const { format, signal, id } = options
  const raw = reply.raw
  reply.hijack()
  raw.writeHead(200, {
    ...(reply.getHeaders() as Record<string, string>),
    'content-type': format === 'sse' ? 'text/event-stream; charset=utf-8' : 'application/x-ndjson; charset=utf-8',
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  })
  raw.flushHeaders()
  if (format === 'sse') raw.write(': begin\n\n')

  const beat = (): void => {
    if (!raw.writableEnded && !raw.writableNeedDrain) raw.write(':\n\n')
  }
  const heartbeat = format === 'sse' ? setInterval(beat, heartbeatMs).unref() : undefined
  const end = (): void => {
    if (!raw.writableEnded) raw.end()
  }
  signal.addEventListener('abort', end)
  const frame = (json: string, recordId?: number): string => {
    if (format === 'ndjson') return `${json}\n`
    return `${recordId === undefined ? '' : `id: ${recordId}\n`}data: ${json}\n\n`
  }
  try {
    for await (const record of records) {
      if (signal.aborted || raw.writableEnded || raw.destroyed) break
      if (!raw.write(frame(JSON.stringify(record), id?.(record)))) await writable(reply, options)
    }
  } catch (thrown) {
    const error = toBerthError(thrown)
    if (!signal.aborted) {
      reply.log.warn({ requestId: reply.request.id, code: error.code }, error.message)
      const json = errorJson(error, reply.request.caller)
      if (!raw.writableEnded) raw.write(format === 'sse' ? `event: error\n${frame(json)}` : frame(json))
    }
  } finally {
    clearInterval(heartbeat)
    signal.removeEventListener('abort', end)
    end()
  }
  return reply
}

/** Resolves when more can be written, or never will be. */
async function writable(reply: FastifyReply, options: { signal: AbortSignal; stalledMs?: number }): Promise<void> {
  const { signal, stalledMs } = options
  const { raw } = reply
  if (signal.aborted || raw.destroyed) return
  const drop = stalledMs === undefined ? undefined : setTimeout(() => raw.destroy(), stalledMs).unref()
  await once(raw, 'drain', { signal }).catch(() => undefined)
  clearTimeout(drop)
}
