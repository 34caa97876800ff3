import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { Frame } from '../support/frames.ts'
import type { ErrorOutcome, Outcome } from './outcome.ts'

/** One inference over a connection of its own: a broken connection then says something about this request alone. */
export interface Question {
  readonly model: string
  readonly parameters: Record<string, unknown>
  readonly stream: boolean
  /** What the texts joined must be. */
  readonly expected: string
  /** The client goes away after so long. */
  readonly leaveAfterMs?: number | undefined
}

export function ask(url: string, question: Question, limitMs: number): Promise<Outcome> {
  const { model, parameters, stream, leaveAfterMs } = question
  return new Promise((resolve) => {
    let text = ''
    let settled = false
    const finish = (outcome: Outcome): void => {
      if (settled) return
      settled = true
      clearTimeout(limit)
      clearTimeout(leave)
      call.destroy()
      resolve(outcome)
    }
    const limit = setTimeout(() => finish({ kind: 'hung', begun: text !== '' }), limitMs)
    const leave = leaveAfterMs === undefined ? undefined : setTimeout(() => finish({ kind: 'left' }), leaveAfterMs)
    const call = httpRequest(
      `${url}/api/models/${model}/infer`,
      { method: 'POST', agent: false, headers: { 'content-type': 'application/json' } },
      (answer) => {
        answer.setEncoding('utf8')
        answer.on('data', (part: string) => {
          text += part
        })
        answer.on('end', () => finish(readAnswer(answer, text, question)))
        answer.on('error', () => finish({ kind: 'cut', begun: true }))
      },
    )
    call.on('error', (error: NodeJS.ErrnoException) =>
      finish(error.code === 'ECONNREFUSED' ? { kind: 'refused' } : { kind: 'cut', begun: text !== '' }),
    )
    call.end(JSON.stringify({ parameters, stream }))
  })
}

function readAnswer(answer: IncomingMessage, text: string, { stream, expected }: Question): Outcome {
  try {
    const lines = text.split('\n').filter((line) => line !== '')
    const frames = lines.map((line) => JSON.parse(line) as Frame)
    const last = frames.at(-1)
    if (last?.error) return readError(answer, last.error, stream && answer.statusCode === 200)
    if (answer.statusCode !== 200) return { kind: 'wrong', what: `${answer.statusCode} ${text.slice(0, 200)}` }
    if (stream && last?.done !== true) return { kind: 'unfinished', what: text.slice(-200) }
    const said = stream ? frames.map(({ chunk }) => chunk?.response.text ?? '').join('') : textOf(last)
    return said === expected ? { kind: 'ok' } : { kind: 'wrong', what: `${said} in the place of ${expected}` }
  } catch {
    return { kind: 'wrong', what: `no JSON: ${text.slice(-200)}` }
  }
}

function readError(answer: IncomingMessage, error: object, inStream: boolean): ErrorOutcome {
  const { code, message, retryable } = error as { code?: unknown; message?: unknown; retryable?: unknown }
  const seconds = Number(answer.headers['retry-after'] ?? Number.NaN)
  return {
    kind: 'error',
    code: String(code),
    status: answer.statusCode ?? 0,
    retryable: retryable === true,
    inStream,
    message: String(message),
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  }
}

function textOf(whole: Frame | undefined): string {
  return (whole as { response?: { text?: string } } | undefined)?.response?.text ?? ''
}
