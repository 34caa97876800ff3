import type { CallResult } from '../../module-runner/protocol.ts'
import { BerthError } from '../domain/errors.ts'
import { parseJsonAsWritten } from '../domain/json.ts'
import type { Inference } from '../inference/dispatcher.ts'
import type { InferenceSink } from '../inference/types.ts'
import { longestLine } from '../runner/line-splitter.ts'

/** Bytes that may wait for the caller before the called module is told to pause. */
const highWaterBytes = 256 * 1024

/**
 * The frames of an inference as an async iterable: pulls at the reader's pace and cancels when the reader or the signal
 * ends. `longest`: characters of a line, of which the module is not trusted to make an end.
 */
export async function* collectFrames(
  signal: AbortSignal,
  begin: (sink: InferenceSink) => Inference,
  longest: number = longestLine,
): AsyncGenerator<CallResult> {
  const lines: string[] = []
  let partial = ''
  let waitingBytes = 0
  let finished = false
  let failure: BerthError | undefined
  let wake = () => {}
  const decoder = new TextDecoder()

  const inference = begin({
    queued() {},
    begin() {},
    data(bytes) {
      // Only what is new is searched: a long line comes in many pieces.
      const [first = '', ...more] = decoder.decode(bytes, { stream: true }).split('\n')
      partial += first
      for (const next of more) {
        lines.push(partial)
        partial = next
      }
      if (partial.length > longest) {
        partial = ''
        failure = new BerthError('RUNNER_PROTOCOL', `The called module sent a line of more than ${longest} characters.`)
        finished = true
      }
      waitingBytes += bytes.length
      wake()
      return waitingBytes < highWaterBytes
    },
    end() {
      finished = true
      wake()
    },
    fail(error) {
      failure = error
      finished = true
      wake()
    },
  })
  const onAbort = () => {
    finished = true
    inference.cancel()
    wake()
  }
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    for (;;) {
      const line = lines.shift()
      if (line !== undefined) {
        if (line !== '') yield parseJsonAsWritten(line) as CallResult
        continue
      }
      if (finished) break
      waitingBytes = 0
      inference.resume()
      await new Promise<void>((resolve) => {
        wake = resolve
      })
      wake = () => {}
    }
    if (failure) yield { error: failure.toBody() }
  } finally {
    signal.removeEventListener('abort', onAbort)
    inference.cancel()
  }
}
