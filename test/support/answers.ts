import type { Frame, TestBerth } from './orchestrator.ts'

/** What a finished stream says, put together as a reader of it would. */

export const textOf = (frames: readonly Frame[]): string =>
  frames.map((frame) => frame.chunk?.response.text ?? '').join('')

/** The `extra` of the only chunk; the stream has to have ended well. */
export async function extraOf(
  berth: TestBerth,
  model: string,
  parameters: Record<string, unknown>,
  body: Record<string, unknown> = {},
): Promise<Record<string, unknown>> {
  const frames = await berth.infer(model, { parameters, ...body })
  const extra = frames[0]?.chunk?.response.extra
  if (extra === undefined || frames.at(-1)?.done !== true) throw new Error(`no answer: ${JSON.stringify(frames)}`)
  return extra
}

/** The error of an answer: of its body, or of its last frame. */
export interface WireFailure {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly origin: string
  readonly retryable: boolean
  readonly details: Record<string, unknown>
}

export async function failureOf(answer: Response): Promise<WireFailure> {
  const text = await answer.text()
  const last = JSON.parse(text.split('\n').findLast((line) => line !== '') ?? '{}') as { error?: WireFailure }
  if (last.error === undefined) throw new Error(`no error: ${answer.status} ${text.slice(0, 1_000)}`)
  return { ...last.error, status: answer.status, details: last.error.details ?? {} }
}

/** The failure of an inference. */
export async function inferFailure(
  berth: TestBerth,
  model: string,
  body: Record<string, unknown> = {},
): Promise<WireFailure> {
  return failureOf(await berth.request('POST', `/api/models/${encodeURIComponent(model)}/infer`, body))
}
