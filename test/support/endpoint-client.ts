import { type IncomingMessage, request } from 'node:http'
import type { Endpoint } from '../../orchestrator/engines/engine.ts'

/** The runner protocol over an endpoint, without a client of ours between the test and the wire. */
export interface EndpointCall {
  readonly method?: 'GET' | 'POST'
  readonly path: string
  readonly body?: unknown
  readonly token?: string
  /** Milliseconds without an answer; default 30,000. */
  readonly timeoutMs?: number
}

export interface EndpointAnswer {
  readonly status: number
  readonly json: unknown
}

/** Resolves with the head of the answer; the caller reads or destroys the stream. */
export function openEndpoint(endpoint: Endpoint, call: EndpointCall): Promise<IncomingMessage> {
  const body = call.body === undefined ? undefined : JSON.stringify(call.body)
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        ...(endpoint.kind === 'unix' ? { socketPath: endpoint.path } : { host: endpoint.host, port: endpoint.port }),
        agent: false,
        method: call.method ?? (body === undefined ? 'GET' : 'POST'),
        path: call.path,
        timeout: call.timeoutMs ?? 30_000,
        headers: {
          ...(body === undefined
            ? {}
            : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(body)) }),
          ...(call.token === undefined ? {} : { authorization: `Bearer ${call.token}` }),
        },
      },
      resolve,
    )
    outgoing.on('error', reject)
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer from ${call.path}`)))
    outgoing.end(body)
  })
}

/** The whole answer, with its body as JSON; a stream's lines as an array. */
export async function callEndpoint(endpoint: Endpoint, call: EndpointCall): Promise<EndpointAnswer> {
  const answer = await openEndpoint(endpoint, call)
  const parts: Buffer[] = []
  for await (const part of answer) parts.push(part)
  const text = Buffer.concat(parts).toString('utf8')
  const ndjson = answer.headers['content-type']?.startsWith('application/x-ndjson') ?? false
  const json: unknown = ndjson
    ? text
        .split('\n')
        .filter((line) => line !== '')
        .map((line): unknown => JSON.parse(line))
    : text === ''
      ? undefined
      : JSON.parse(text)
  return { status: answer.statusCode ?? 0, json }
}
