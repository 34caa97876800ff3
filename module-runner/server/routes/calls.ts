import type { IncomingMessage } from 'node:http'
import { ndjson } from '../../constants.ts'
import type { OutgoingCall } from '../../protocol.ts'
import type { RunnerContext } from '../context.ts'
import { isRecord, RunnerError } from '../errors.ts'
import { callerLeft } from '../replies.ts'
import type { Exchange, Routes } from '../router.ts'

/** GET /calls and POST /calls/:id: the channel on which the module's calls to other models leave and their results come. */
const aliveMs = 5_000
/** Chunks carry files as base64; a line beyond this is none. */
const longestLine = 256 * 1024 * 1024

export function callRoutes({ calls }: RunnerContext): Routes {
  function open({ response }: Exchange): void {
    response.writeHead(200, { 'content-type': ndjson })
    response.flushHeaders()
    const alive = setInterval(() => response.write('\n'), aliveMs)
    const channel = {
      send: (call: OutgoingCall) => response.write(`${JSON.stringify(call)}\n`),
      close: () => response.end(),
    }
    response.on('close', () => {
      clearInterval(alive)
      calls.detach(channel)
    })
    calls.attach(channel)
  }

  async function answer({ request, response, parameter: id }: Exchange): Promise<object> {
    const abandoned = calls.answer(id)
    if (abandoned === undefined) {
      request.resume()
      throw givenUp()
    }
    try {
      for await (const line of readLines(request, AbortSignal.any([abandoned, callerLeft(response)]))) {
        const frame: unknown = JSON.parse(line)
        const last = isRecord(frame) && ('done' in frame || 'error' in frame)
        await calls.result(id, line, last)
        if (last) return {}
      }
    } catch (error) {
      if (abandoned.aborted) throw givenUp()
      calls.fail(id, new RunnerError('STREAM_INTERRUPTED', 'The answer of another model could not be read to its end.'))
      throw error instanceof SyntaxError
        ? new RunnerError('REQUEST_INVALID', `A line is not JSON: ${error.message}`)
        : error
    }
    if (abandoned.aborted) throw givenUp()
    calls.fail(id, new RunnerError('STREAM_INTERRUPTED', 'The answer of another model ended without its last line.'))
    throw new RunnerError('REQUEST_INVALID', 'The result ended without a line that has `done` or `error`.')
  }

  return { 'GET /calls': open, 'POST /calls/*': answer }
}

/** Answered as 410: the module does not wait for this result any more. */
export class GoneError extends RunnerError {
  override get status(): number {
    return 410
  }
}

function givenUp(): GoneError {
  return new GoneError('CLIENT_CLOSED', 'The module has given this call up.')
}

/** Non-empty lines as text. Ends early, and leaves the rest of the request unread, when the signal aborts. */
async function* readLines(request: IncomingMessage, signal: AbortSignal): AsyncGenerator<string> {
  let held: Buffer[] = []
  let size = 0
  for await (const bytes of untilAborted(request, signal)) {
    let from = 0
    for (let end = bytes.indexOf(10); end !== -1; end = bytes.indexOf(10, from)) {
      const line = Buffer.concat([...held, bytes.subarray(from, end)]).toString('utf8')
      held = []
      size = 0
      from = end + 1
      if (line.trim() !== '') yield line
    }
    held.push(bytes.subarray(from))
    size += bytes.length - from
    if (size > longestLine)
      throw new RunnerError('PAYLOAD_TOO_LARGE', `A line of the result is longer than ${longestLine} bytes.`)
  }
  const rest = Buffer.concat(held).toString('utf8')
  if (rest.trim() !== '') yield rest
}

/** Not by a race with one promise for all parts: that promise would keep every part until the request ends. */
async function* untilAborted(request: IncomingMessage, signal: AbortSignal): AsyncGenerator<Buffer> {
  const parts = request.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
  while (!signal.aborted) {
    const next = await orAborted(parts.next(), signal)
    if (next === undefined || next.done === true) break
    yield next.value
  }
  request.resume()
}

function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const onAbort = () => resolve(undefined)
    const settle =
      <V>(act: (value: V) => void) =>
      (value: V) => {
        signal.removeEventListener('abort', onAbort)
        act(value)
      }
    signal.addEventListener('abort', onAbort, { once: true })
    promise.then(settle(resolve), settle(reject))
  })
}
