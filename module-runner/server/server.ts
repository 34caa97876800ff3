import type { Server } from 'node:http'
import fastify from 'fastify'
import { tokenCheck } from './access.ts'
import type { RunnerApp, RunnerContext } from './context.ts'
import { RunnerError, toRunnerError } from './errors.ts'
import { callRoutes } from './routes/calls.ts'
import { inferHandler } from './routes/infer.ts'
import { modelRoutes } from './routes/models.ts'
import { stateRoutes } from './routes/state.ts'

export interface ServerOptions extends Omit<RunnerContext, 'admit'> {
  readonly token: string | undefined
  readonly stopping: () => boolean
}

/** The orchestrator keeps its connections; it closes them first. */
const keepAliveMs = 10 * 60_000
const methods: Readonly<Record<string, string>> = {
  '/health': 'GET',
  '/describe': 'GET',
  '/calls': 'GET',
  '/load': 'POST',
  '/offload': 'POST',
  '/infer': 'POST',
  '/call': 'POST',
}

function noSchema(): never {
  throw new RunnerError('INTERNAL', 'A route has a schema, and no compiler is loaded.')
}

/** The HTTP server of runner protocol 1. Not listening yet. */
export function createRunnerServer(options: ServerOptions): RunnerApp {
  const allows = tokenCheck(options.token)
  const context: RunnerContext = {
    ...options,
    admit(authorization) {
      if (!allows(authorization)) throw new RunnerError('UNAUTHORIZED', 'The bearer token is missing or wrong.')
      if (options.stopping()) throw new RunnerError('SHUTTING_DOWN', `Module ${options.module.id} is shutting down.`)
    },
  }
  const infer = inferHandler(context)
  const app: RunnerApp = fastify<Server>({
    // Importing node:http as a module would load its WebSocket client too, 15 MB that no runner needs.
    serverFactory: (handler) =>
      process.getBuiltinModule('node:http').createServer({ keepAliveTimeout: keepAliveMs }, (request, response) => {
        if (request.url === '/infer' && request.method === 'POST') infer(request, response)
        else handler(request, response)
      }),
    // Nothing here is validated or serialised by schema, so neither compiler is loaded.
    schemaController: {
      compilersFactory: { buildValidator: () => noSchema, buildSerializer: () => () => JSON.stringify },
    },
    exposeHeadRoutes: false,
  })
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', (_request, _body, done) => done(null))
  app.addHook('onRequest', async (request) => {
    if (request.url !== '/health' || request.method !== 'GET') context.admit(request.headers.authorization)
  })
  app.setErrorHandler((error, _request, reply) => {
    const known = toRunnerError(error)
    return reply.code(known.status).send({ error: known.toWire() })
  })
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?', 1)[0] ?? ''
    const allowed = methods[path]
    if (allowed === undefined) throw new RunnerError('NOT_FOUND', `There is no ${path} in runner protocol 1.`)
    reply.header('allow', allowed)
    throw new RunnerError('METHOD_NOT_ALLOWED', `${path} takes ${allowed}.`)
  })
  stateRoutes(app, context)
  modelRoutes(app, context)
  callRoutes(app, context)
  return app
}
