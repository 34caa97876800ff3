import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject, type JsonObject, parseJsonAsWritten } from '../domain/json.ts'

/** The answer of an inference that was asked for in one piece (`"stream": false`). */
export interface WholeAnswer {
  readonly response: { readonly text?: string; readonly files?: readonly unknown[]; readonly extra?: JsonObject }
  readonly warnings: readonly unknown[]
  readonly errors: readonly unknown[]
  readonly conversation?: unknown
}

/**
 * Puts the frames of a stream together: texts joined, files in order, of `extra` the later key wins (module-formats,
 * "yields"). The stream's own error frame comes back as an error.
 */
export function aggregate(lines: Iterable<string>): WholeAnswer | { readonly error: BerthError } {
  const texts: string[] = []
  const files: unknown[] = []
  const warnings: unknown[] = []
  const errors: unknown[] = []
  let extra: JsonObject | undefined
  let conversation: unknown
  for (const line of lines) {
    if (line === '') continue
    const frame = parse(line)
    if (!isJsonObject(frame)) {
      return {
        error: new BerthError('RUNNER_PROTOCOL', `The module sent a line that is no frame: ${line.slice(0, 200)}`),
      }
    }
    if (frame.error !== undefined) return { error: fromModuleError(frame, 'INFERENCE_FAILED') }
    if (frame.conversation !== undefined) conversation = frame.conversation
    if (!isJsonObject(frame.chunk)) continue
    const { response } = frame.chunk
    if (isJsonObject(response)) {
      if (typeof response.text === 'string') texts.push(response.text)
      append(files, response.files)
      if (isJsonObject(response.extra)) extra = { ...extra, ...response.extra }
    }
    append(warnings, frame.chunk.warnings)
    append(errors, frame.chunk.errors)
  }
  return {
    response: {
      ...(texts.length === 0 ? {} : { text: texts.join('') }),
      ...(files.length === 0 ? {} : { files }),
      ...(extra === undefined ? {} : { extra }),
    },
    warnings,
    errors,
    ...(conversation === undefined ? {} : { conversation }),
  }
}

/** One by one: a spread of very many is more arguments than a call can take. */
function append(all: unknown[], more: unknown): void {
  if (Array.isArray(more)) for (const item of more) all.push(item)
}

function parse(text: string): unknown {
  try {
    return parseJsonAsWritten(text)
  } catch {
    return undefined
  }
}
