import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject, parseJsonAsWritten } from '../domain/json.ts'
import { interrupted } from './errors.ts'
import type { InferHandlers } from './inference.ts'
import type { Ending } from './last-line.ts'
import { LineSplitter } from './line-splitter.ts'

/**
 * Reads the frames of an image that other people wrote and hands them on in the exact form of the protocol: `response`
 * may be left out of a chunk, whitespace and the order of keys are free, an error may lack fields. A line that is no
 * frame ends it: `cancel` then closes the connection.
 */
export function wrapForeignFrames(module: string, handlers: InferHandlers, cancel: () => void): InferHandlers {
  const lines = new LineSplitter()
  let ended: Ending | undefined
  let problem: BerthError | undefined

  function forward(line: Buffer): string {
    const text = line.toString('utf8').trim()
    if (text === '' || ended || problem) return ''
    const frame = parse(text)
    if (isJsonObject(frame)) {
      if (isJsonObject(frame.chunk)) return `${JSON.stringify({ chunk: wrapChunk(frame.chunk) })}\n`
      if (frame.done === true) {
        ended = { kind: 'done' }
        const { done: _, ...rest } = frame
        return `${JSON.stringify({ done: true, ...rest })}\n`
      }
      if (frame.error !== undefined) {
        const error = fromModuleError(frame, 'INFERENCE_FAILED', { module })
        ended = { kind: 'error', code: error.code }
        return `${JSON.stringify({ error: error.toBody() })}\n`
      }
    }
    const message = `The image of module ${module} sent a line that is no frame of the protocol: ${text.slice(0, 200)}`
    problem = new BerthError('RUNNER_PROTOCOL', message, { module })
    return ''
  }

  function take(bytes: Buffer): readonly Buffer[] {
    try {
      return lines.push(bytes)
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      problem = new BerthError('RUNNER_PROTOCOL', `The image of module ${module} sent no frame: ${reason}.`, { module })
      return []
    }
  }

  return {
    onData(bytes) {
      let out = ''
      for (const line of take(bytes)) out += forward(line)
      const more = out === '' || handlers.onData(Buffer.from(out))
      if (problem) {
        cancel()
        handlers.onError(problem)
      }
      return more
    },
    onEnd() {
      finish()
    },
    onError(error) {
      // The image's own line ends were not looked at before: a stream that closes right after its last frame is whole.
      if (ended || error.code === 'STREAM_INTERRUPTED') finish(error)
      else handlers.onError(error)
    },
  }

  function finish(error?: BerthError): void {
    const rest = lines.rest()
    if (rest.length > 0) {
      const out = forward(rest)
      if (out !== '') handlers.onData(Buffer.from(out))
    }
    if (ended) handlers.onEnd(ended)
    else handlers.onError(problem ?? error ?? interrupted(module))
  }
}

function wrapChunk(chunk: Record<string, unknown>): Record<string, unknown> {
  const { response, warnings, errors, text, files, extra } = chunk
  const inner = isJsonObject(response)
    ? response
    : {
        ...(text === undefined ? {} : { text }),
        ...(files === undefined ? {} : { files }),
        ...(extra === undefined ? {} : { extra }),
      }
  return {
    response: inner,
    warnings: Array.isArray(warnings) ? warnings : [],
    errors: Array.isArray(errors) ? errors : [],
  }
}

function parse(text: string): unknown {
  try {
    return parseJsonAsWritten(text)
  } catch {
    return undefined
  }
}
