export type Frame = Record<string, unknown> & {
  readonly chunk?: {
    readonly response: { readonly text?: string; readonly files?: unknown[]; readonly extra?: Record<string, unknown> }
  }
  readonly done?: boolean
  readonly conversation?: unknown[]
  readonly error?: { readonly code: string; readonly message: string; readonly details?: Record<string, unknown> }
}

/** The frames of one streamed answer, taken one by one, so that a test can act between them. */
export interface FrameReader {
  readonly response: Response
  /** The next frame; undefined at the end. */
  next(): Promise<Frame | undefined>
  /** The next frame that is no `queued`. */
  nextOf(): Promise<Frame | undefined>
  /** All that are left. */
  rest(): Promise<Frame[]>
  /** The client leaves. */
  leave(): Promise<void>
}

export function readFrames(response: Response): FrameReader {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  let text = ''

  async function next(): Promise<Frame | undefined> {
    for (;;) {
      const end = text.indexOf('\n')
      if (end >= 0) {
        const line = text.slice(0, end)
        text = text.slice(end + 1)
        if (line !== '') return JSON.parse(line) as Frame
        continue
      }
      const part = await reader?.read()
      if (part === undefined || part.done) return text === '' ? undefined : (JSON.parse(takeText()) as Frame)
      text += part.value
    }
  }

  function takeText(): string {
    const last = text
    text = ''
    return last
  }

  return {
    response,
    next,
    async nextOf() {
      for (;;) {
        const frame = await next()
        if (frame?.queued === undefined) return frame
      }
    },
    async rest() {
      const frames: Frame[] = []
      for (let frame = await next(); frame !== undefined; frame = await next()) frames.push(frame)
      return frames
    },
    async leave() {
      await reader?.cancel()
    },
  }
}
