import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import type { BerthError } from '../../../orchestrator/domain/errors.ts'
import {
  createRunnerClient,
  type Ending,
  type InferCall,
  type RunnerClient,
  type RunnerEndpoint,
} from '../../../orchestrator/runner/client.ts'
import { temporaryFolder } from '../http/fake-services.ts'

/** A real HTTP server whose every answer a test writes itself, and a client of it; both end with their test. */
export interface ScriptedRunner {
  readonly client: RunnerClient
  readonly endpoint: RunnerEndpoint
  /** Connections that are open now. */
  readonly sockets: ReadonlySet<Socket>
}

export type Script = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>

export async function scriptedRunner(
  script: Script,
  options: { readonly over?: 'tcp' | 'unix'; readonly foreign?: boolean; readonly token?: string } = {},
): Promise<ScriptedRunner> {
  const { over = 'tcp', foreign = false, token = 'secret' } = options
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => void script(request, response))
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  const path = join(await temporaryFolder(), 'runner.sock')
  await new Promise<void>((resolve) =>
    over === 'unix' ? server.listen(path, resolve) : server.listen(0, '127.0.0.1', resolve),
  )
  const endpoint: RunnerEndpoint =
    over === 'unix'
      ? { kind: 'unix', path }
      : { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  const client = createRunnerClient({ module: 'mod', endpoint, token, foreign })
  onTestFinished(async () => {
    client.close()
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  return { client, endpoint, sockets }
}

export async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part)
  return Buffer.concat(parts).toString('utf8')
}

export const ndjson = { 'content-type': 'application/x-ndjson' }
export const chunk = (text: string) =>
  `{"chunk":{"response":{"text":${JSON.stringify(text)}},"warnings":[],"errors":[]}}\n`
export const done = '{"done":true}\n'

/** What an inference gave: its bytes, and how it ended, once. */
export interface Collected {
  readonly call: InferCall
  readonly parts: Buffer[]
  readonly text: () => string
  /** Settles with the ending or the error. */
  readonly over: Promise<Ending | BerthError>
  /** Calls of onEnd and onError together. */
  ends: number
  /** What onData answers. */
  takes: boolean
}

export function infer(
  client: RunnerClient,
  limits: { firstChunkMs?: number; betweenChunksMs?: number } = {},
  body = '{"model":"m","config":{},"parameters":{}}',
): Collected {
  const parts: Buffer[] = []
  const over = Promise.withResolvers<Ending | BerthError>()
  // A client that is closed answers before its `infer` has returned.
  let call: InferCall | undefined
  const collected: Collected = {
    get call() {
      if (!call) throw new Error('The inference is over before it has begun')
      return call
    },
    parts,
    text: () => Buffer.concat(parts).toString('utf8'),
    over: over.promise,
    ends: 0,
    takes: true,
  }
  const end = (outcome: Ending | BerthError) => {
    collected.ends += 1
    over.resolve(outcome)
  }
  call = client.infer(
    body,
    'request-1',
    { firstChunkMs: Number.POSITIVE_INFINITY, betweenChunksMs: Number.POSITIVE_INFINITY, ...limits },
    {
      onData(bytes) {
        parts.push(bytes)
        return collected.takes
      },
      onEnd: end,
      onError: end,
    },
  )
  return collected
}
