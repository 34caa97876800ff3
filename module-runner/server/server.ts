import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { type PlainConnections, takePlainRequests } from '../plain-http/connections.ts'
import { tokenCheck } from './access.ts'
import type { RunnerContext } from './context.ts'
import { RunnerError, shuttingDown } from './errors.ts'
import { sendError } from './replies.ts'
import { type Routes, route } from './router.ts'
import { callRoutes } from './routes/calls.ts'
import { inferHandler, inferPlain } from './routes/infer.ts'
import { modelRoutes } from './routes/models.ts'
import { stateRoutes } from './routes/state.ts'

export interface ServerOptions extends RunnerContext {
  /** Every request but GET /health has to carry it, where there is one. */
  readonly token: string | undefined
  /** True once the runner ends: then it takes nothing new. */
  readonly stopping: () => boolean
}

/** The orchestrator keeps its connections; it closes them first. */
const keepAliveMs = 10 * 60_000

export interface RunnerServer {
  readonly http: Server
  /** Those of its connections that `http` does not know of. */
  readonly plain: PlainConnections
}

/** The HTTP server of runner protocol 1. Not listening yet. */
export function createRunnerServer(options: ServerOptions): RunnerServer {
  const allows = tokenCheck(options.token)
  const infer = inferHandler(options)
  const routes: Routes = {
    ...stateRoutes(options, options.stopping),
    ...modelRoutes(options),
    ...callRoutes(options),
    'POST /infer': ({ request, response }) => infer(request, response),
  }

  function refusal(request: IncomingMessage): RunnerError | undefined {
    if (!allows(request.headers.authorization)) {
      return new RunnerError('UNAUTHORIZED', 'The bearer token is missing or wrong.')
    }
    if (options.stopping()) return shuttingDown(options.module.id)
    return undefined
  }

  function listener(request: IncomingMessage, response: ServerResponse): void {
    const open = request.url === '/health' && request.method === 'GET'
    const refused = open ? undefined : refusal(request)
    if (refused !== undefined) {
      request.resume()
      sendError(response, refused)
    } else if (request.url === '/infer' && request.method === 'POST') infer(request, response)
    else route(routes, request, response)
  }

  // A result of a call to another model is a request that may last as long as that model computes.
  const limits = { keepAliveTimeout: keepAliveMs, requestTimeout: 0 }
  // Importing node:http as a module would load its WebSocket client too: 13 MB that no runner needs.
  const http = process.getBuiltinModule('node:http').createServer(limits, listener)
  const plain = takePlainRequests(http, (request, reply) => {
    if (request.path !== '/infer' || options.stopping() || !allows(request.headers.authorization)) return false
    return inferPlain(options, request, reply)
  })
  return { http, plain }
}
