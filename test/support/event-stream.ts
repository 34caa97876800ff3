import type { BerthEvent } from '../../orchestrator/domain/views.ts'

/** Server-sent events of `/api/events`, read as a browser reads them. */
export interface EventReader {
  /** Everything that has come so far. */
  readonly events: readonly BerthEvent[]
  /** The id that a client would resume from. */
  readonly lastId: string | undefined
  /** Comments that have come: heartbeats and the first one. */
  readonly comments: number
  /** Settles when the stream has ended, whoever ended it. */
  readonly ended: Promise<void>
  /** The client leaves. */
  leave(): Promise<void>
}

export async function openEvents(url: string, lastId?: string): Promise<EventReader> {
  const gone = new AbortController()
  const headers = { accept: 'text/event-stream', ...(lastId === undefined ? {} : { 'last-event-id': lastId }) }
  const answer = await fetch(url, { headers, signal: gone.signal })
  if (!answer.ok || answer.body === null) throw new Error(`${url} answered ${answer.status}`)
  const events: BerthEvent[] = []
  let last = lastId
  let comments = 0

  function take(block: string): void {
    for (const line of block.split('\n')) {
      if (line.startsWith(':')) comments += 1
      if (line.startsWith('id: ')) last = line.slice(4)
      if (line.startsWith('data: ')) events.push(JSON.parse(line.slice(6)) as BerthEvent)
    }
  }

  async function read(body: ReadableStream<Uint8Array>): Promise<void> {
    let text = ''
    for await (const part of body.pipeThrough(new TextDecoderStream())) {
      text += part
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        take(text.slice(0, end))
        text = text.slice(end + 2)
      }
    }
  }

  const ended = read(answer.body).catch(() => undefined)
  return {
    events,
    get lastId() {
      return last
    },
    get comments() {
      return comments
    },
    ended,
    async leave() {
      gone.abort()
      await ended
    },
  }
}
