import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject } from '../domain/json.ts'
import type { InferHandlers } from './infer-call.ts'
import type { Ending } from './last-line.ts'
import { LineSplitter } from './line-splitter.ts'

/**
 * Reads the frames of an image that other people wrote and hands them on in the exact form of the protocol: `response`
 * may be left out of a chunk, whitespace and the order of keys are free, an error may lack fields.
 */
export function wrapForeignFrames(handlers: InferHandlers): InferHandlers {
  const lines = new LineSplitter()
  let ended: Ending | undefined
  let problem: BerthError | undefined

  function forward(line: Buffer): string {
    const text = line.toString('utf8').trim()
    if (text === '' || ended) return ''
    const frame = parse(text)
    if (isJsonObject(frame)) {
      if (isJsonObject(frame.chunk)) return `${JSON.stringify({ chunk: wrapChunk(frame.chunk) })}\n`
      if (frame.done === true) {
        ended = { kind: 'done' }
        const { done: _, ...rest } = frame
        return `${JSON.stringify({ done: true, ...rest })}\n`
      }
      if (frame.error !== undefined) {
        const error = fromModuleError(frame, 'INFERENCE_FAILED')
        ended = { kind: 'error', code: error.code }
        return `${JSON.stringify({ error: error.toBody() })}\n`
      }
    }
    problem = new BerthError(
      'RUNNER_PROTOCOL',
      `The image sent a line that is no frame of the protocol: ${text.slice(0, 200)}`,
    )
    return ''
  }

  return {
    onData(bytes) {
      let out = ''
      for (const line of lines.push(bytes)) out += forward(line)
      return out === '' || handlers.onData(Buffer.from(out))
    },
    onEnd() {
      finish()
    },
    onError(error) {
      // The image's own line ends were not looked at before: a stream that closes right after its last frame is whole.
      if (error.code === 'STREAM_INTERRUPTED') finish(error)
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
    else
      handlers.onError(
        problem ??
          error ??
          new BerthError(
            'STREAM_INTERRUPTED',
            'The stream of the image ended without its terminal frame.',
            {},
            { origin: 'module' },
          ),
      )
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
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
