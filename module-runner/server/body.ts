import type { IncomingMessage } from 'node:http'
import { RunnerError } from './errors.ts'
import { NestingGuard } from './nesting.ts'

/**
 * Reads a request's body as the bytes it came in: they go on to the worker as they are, so nothing here parses them.
 * Rejects with PAYLOAD_TOO_LARGE, REQUEST_INVALID (nested too deep) or CLIENT_CLOSED.
 */
export function readBody(request: IncomingMessage, limit: number): Promise<readonly Buffer[]> {
  return new Promise((resolve, reject) => {
    const guard = new NestingGuard()
    const parts: Buffer[] = []
    let bytes = 0
    const fail = (error: RunnerError) => {
      request.off('data', onData)
      request.resume()
      reject(error)
    }
    const onData = (part: Buffer) => {
      bytes += part.length
      if (bytes > limit) return fail(tooLarge(limit))
      try {
        guard.push(part)
      } catch (error) {
        return fail(error as RunnerError)
      }
      parts.push(part)
    }
    const declared = request.headers['content-length']
    if (declared !== undefined && Number(declared) > limit) return fail(tooLarge(limit))
    request.on('data', onData)
    request.on('end', () => resolve(parts))
    request.on('close', () => {
      if (!request.complete) reject(new RunnerError('CLIENT_CLOSED', 'The caller left while it sent its request.'))
    })
    request.on('error', () => reject(new RunnerError('CLIENT_CLOSED', 'The caller left while it sent its request.')))
  })
}

function tooLarge(limit: number): RunnerError {
  return new RunnerError('PAYLOAD_TOO_LARGE', `The request is larger than the module's limit of ${limit} bytes.`, {
    limit,
  })
}

/** The text of a body, for the calls whose content the runner looks at. */
export function bodyText(parts: readonly Buffer[]): string {
  return Buffer.concat(parts).toString('utf8')
}
