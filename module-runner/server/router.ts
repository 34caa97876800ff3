import type { IncomingMessage, ServerResponse } from 'node:http'
import { RunnerError, toRunnerError } from './errors.ts'
import { sendError } from './replies.ts'

/**
 * Finds the handler of a request. The protocol has nine fixed routes; a web framework for them would cost every module
 * container 8 MB and a third of its start (docs/architecture.md).
 */
export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** The last segment of a path that is declared with `/*`. */
  readonly parameter: string
}

/** What it answers is sent as JSON; undefined: it has taken the response over. */
export type Handler = (exchange: Exchange) => unknown

/** `GET /health`, `POST /calls/*`. */
export type Routes = Readonly<Record<string, Handler>>

/** Any error that a handler throws becomes its status and the protocol's error body. */
export async function route(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  try {
    const { handler, parameter } = find(routes, request)
    const answer = await handler({ request, response, parameter })
    if (answer !== undefined) sendJson(response, answer)
  } catch (error) {
    sendError(response, toRunnerError(error))
  }
}

function find(routes: Routes, request: IncomingMessage): { readonly handler: Handler; readonly parameter: string } {
  const { method = '', url = '/' } = request
  const path = url.split('?', 1)[0] ?? url
  const exact = routes[`${method} ${path}`]
  if (exact !== undefined) return { handler: exact, parameter: '' }
  const slash = path.lastIndexOf('/')
  const pattern = `${path.slice(0, slash)}/*`
  const parent = routes[`${method} ${pattern}`]
  if (parent !== undefined) return { handler: parent, parameter: decode(path.slice(slash + 1)) }
  const other = Object.keys(routes).find((key) => key.endsWith(` ${path}`) || key.endsWith(` ${pattern}`))
  if (other === undefined) throw new RunnerError('NOT_FOUND', `There is no ${path} in runner protocol 1.`)
  throw new RunnerError('METHOD_NOT_ALLOWED', `${path} takes ${other.split(' ')[0]}.`)
}

function decode(segment: string): string {
  try {
    return decodeURIComponent(segment)
  } catch {
    throw new RunnerError('REQUEST_INVALID', 'The path has a broken escape.')
  }
}

function sendJson(response: ServerResponse, answer: unknown): void {
  if (response.destroyed) return
  const text = JSON.stringify(answer)
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
  response.end(text)
}
