import http from 'node:http'
import type { AddressInfo } from 'node:net'
import { json } from 'node:stream/consumers'

/** A small server that answers with the shapes of docs/api.md, and remembers what it was asked. */
export interface FakeApi {
  readonly url: string
  readonly requests: readonly FakeRequest[]
  /** `GET /api/modules` -> answer; the query string is not part of the key. */
  on(call: string, answer: Answer): void
  close(): Promise<void>
}

export interface FakeRequest {
  readonly call: string
  readonly query: string
  readonly body: unknown
  readonly headers: http.IncomingHttpHeaders
}

export type Answer = (response: http.ServerResponse, request: FakeRequest) => unknown

export async function startFakeApi(): Promise<FakeApi> {
  const answers = new Map<string, Answer>()
  const requests: FakeRequest[] = []
  const server = http.createServer(async (incoming, response) => {
    const url = new URL(incoming.url ?? '/', 'http://localhost')
    const request: FakeRequest = {
      call: `${incoming.method} ${decodeURIComponent(url.pathname)}`,
      query: url.search,
      body: Number(incoming.headers['content-length'] ?? 0) > 0 ? await json(incoming) : undefined,
      headers: incoming.headers,
    }
    requests.push(request)
    const answer =
      answers.get(request.call) ?? refuse(404, { code: 'NOT_FOUND', message: `There is no ${request.call}.` })
    await answer(response, request)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    on: (call, answer) => answers.set(call, answer),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Answers this JSON. */
export function give(body: unknown, status = 200): Answer {
  return (response) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/** Answers this error. */
export function refuse(status: number, error: object): Answer {
  return give({ error: { retryable: false, origin: 'orchestrator', ...error } }, status)
}

/** Answers these frames, one a line. */
export function stream(...frames: readonly unknown[]): Answer {
  return (response) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' })
    response.end(frames.map((frame) => `${JSON.stringify(frame)}\n`).join(''))
  }
}

export function chunk(response: object, warnings: readonly unknown[] = []): object {
  return { chunk: { response, warnings, errors: [] } }
}

export const minilm = {
  id: 'embeddings',
  format: 'service',
  desired: 'enabled',
  state: 'ready',
  source: '/srv/berth/modules/embeddings',
  replicas: [
    { id: 'embeddings-0', generation: 1, state: 'ready', gpus: [], models: ['minilm'], inflight: 0, restarts: 0 },
  ],
  models: ['minilm'],
  environment: { key: 'abc', state: 'ready', bytes: 164_000_000 },
  security: { score: 95, findings: [] },
} as const
