import type { IncomingMessage } from 'node:http'

const limitMs = 5_000
const limitBytes = 256 * 1024 * 1024

/** Whether an answer would come while the client is still sending. */
export function isUnread(request: IncomingMessage): boolean {
  const { headers } = request
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
  return hasBody && !request.readableEnded && !request.destroyed
}

/**
 * Reads what is left of a body and drops it: many clients read no answer before they have sent everything, and would see a
 * broken pipe instead of why they were refused. Resolves at the body's end, after 256 MiB, or after 5 s.
 */
export function dropBody(request: IncomingMessage): Promise<void> {
  return new Promise((resolve) => {
    let left = limitBytes
    const onData = (chunk: Buffer): void => {
      left -= chunk.length
      if (left < 0) done()
    }
    const done = (): void => {
      clearTimeout(timer)
      request.off('data', onData)
      for (const event of ['end', 'close', 'error']) request.off(event, done)
      resolve()
    }
    const timer = setTimeout(done, limitMs)
    for (const event of ['end', 'close', 'error']) request.on(event, done)
    request.on('data', onData)
  })
}
