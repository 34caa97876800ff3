/**
 * HTTP: thin routes over the services. `createServer` makes the app, `listen` opens its port; who may come in is in
 * `gate.ts` and `auth/`, how errors look in `errors.ts`.
 */
import type { Server, Socket } from 'node:net'
import { setImmediate } from 'node:timers/promises'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { type FastifyBaseLogger, fastify, LogController } from 'fastify'
import { isLoopback } from '../config/address.ts'
import type { Config, ListenAddress } from '../config/config.ts'
import { BerthError } from '../domain/errors.ts'
import type { Telemetry } from '../telemetry/telemetry.ts'
import type { App } from './app.ts'
import type { Authenticator } from './auth/authenticator.ts'
import { createHostCheck } from './auth/host-check.ts'
import { collectOpenApi, docsRoutes } from './docs.ts'
import { errorJson, payloadTooLarge, routeNotFound, sendError } from './errors.ts'
import { guardRoutes } from './gate.ts'
import { useJsonBodies } from './json-body.ts'
import { refuseOtherMethods } from './method-not-allowed.ts'
import { closeGraceMs, longestParameter, takePlainRoutes } from './plain-routes.ts'
import { makeRequestId } from './request-id.ts'
import { createRequestSignals } from './request-signal.ts'
import type { RouteContext } from './routes/context.ts'
import { environmentRoutes } from './routes/environments.ts'
import { eventRoutes } from './routes/events.ts'
import { healthRoutes } from './routes/health.ts'
import { keyRoutes } from './routes/keys.ts'
import { modelRoutes } from './routes/models.ts'
import { moduleLogRoutes } from './routes/module-logs.ts'
import { moduleRoutes, moduleRpcRoutes } from './routes/modules.ts'
import { scaleRoutes } from './routes/scale.ts'
import { systemRoutes } from './routes/system.ts'
import { sharedSchemas } from './schemas.ts'
import type { Services } from './services.ts'
import { dropBody, isUnread } from './unread-body.ts'
import { createValidatorCompiler, plainSerializer } from './validation.ts'

export interface ServerOptions {
  readonly config: Pick<Config, 'listen' | 'auth' | 'allowedHosts' | 'bodyLimitBytes'>
  readonly services: Services
  readonly auth: Authenticator
  readonly telemetry: Pick<Telemetry, 'logger' | 'metrics' | 'events'>
  /** Further routes, such as those of inference: each gets an app of its own with everything of this one. */
  readonly plugins?: readonly RoutePlugin[]
}

export type RoutePlugin = (app: App, context: RouteContext) => void | Promise<void>

const headersTimeoutMs = 20_000
/** For a request's headers and body, so that nobody holds a connection by sending slowly. Answers may take any time. */
const requestTimeoutMs = 300_000
/** Connections that come without end do not hold up the end. */
const mostTakenIn = 2_000

export function createServer(options: ServerOptions): App {
  const { config, services, telemetry } = options
  if (config.auth === 'none' && !isLoopback(config.listen.host)) {
    throw new BerthError('CONFIG_INVALID', `Berth does not listen on ${config.listen.host} without keys.`, {
      field: 'auth',
      remedy: 'Set `auth: keys` in berth.yaml (BERTH_AUTH=keys), or listen on 127.0.0.1.',
    })
  }
  const logger = telemetry.logger as unknown as FastifyBaseLogger
  const app: App = fastify({
    loggerInstance: logger,
    logController: new LogController({ disableRequestLogging: true }),
    // One logger for all requests: a child for each would cost more than the request's own work in here.
    childLoggerFactory: () => logger,
    bodyLimit: config.bodyLimitBytes,
    genReqId: (raw) => makeRequestId(raw.headers['x-request-id']),
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: 75_000,
    // Node would refuse a request without Host with an empty answer; the gate says what is wrong.
    http: { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: 5_000, requireHostHeader: false },
    return503OnClosing: false,
    // A machine that is busy makes a start slow; it is no reason to fail it.
    pluginTimeout: 0,
    routerOptions: { maxParamLength: longestParameter },
    frameworkErrors: (error, _request, reply) => sendError(reply, error),
    clientErrorHandler: answerBrokenRequest,
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.server.maxConnections = 10_000

  useJsonBodies(app)
  app.setValidatorCompiler(createValidatorCompiler())
  app.setSerializerCompiler(plainSerializer)
  app.setErrorHandler(async (error: { code?: unknown }, request, reply) => {
    if (isUnread(request.raw)) await dropBody(request.raw)
    // Set by fastify after any bad body; this one is read, so that the connection can go on.
    if (!app.isDraining()) reply.removeHeader('connection')
    return sendError(
      reply,
      error.code === 'FST_ERR_CTP_BODY_TOO_LARGE' ? payloadTooLarge(request.routeOptions.bodyLimit) : error,
    )
  })
  app.setNotFoundHandler((request, reply) => sendError(reply, routeNotFound(request)))

  const gate = guardRoutes(app, {
    authenticator: options.auth,
    metrics: telemetry.metrics,
    logger: telemetry.logger,
    ...(config.auth === 'none' ? { hostCheck: createHostCheck(config.allowedHosts) } : {}),
  })
  // Before anything else of the end: a connection whose request has not been read yet looks as if it were idle.
  app.addHook('preClose', async () => {
    app.drain()
    await takeIn(app.server)
  })
  takePlainRoutes(app, {
    gate,
    metrics: telemetry.metrics,
    logger: telemetry.logger,
    bodyLimitBytes: config.bodyLimitBytes,
  })
  const otherMethods = refuseOtherMethods(app)
  for (const schema of sharedSchemas) app.addSchema(schema)
  collectOpenApi(app, services.system.version)

  const signals = createRequestSignals()
  app.decorate('endStreamsOf', signals.abortOf)
  const context: RouteContext = { services, telemetry, signals }
  const own: RoutePlugin[] = [
    healthRoutes,
    moduleRoutes,
    moduleRpcRoutes,
    moduleLogRoutes,
    scaleRoutes,
    modelRoutes,
    environmentRoutes,
    keyRoutes,
    systemRoutes,
    eventRoutes,
    docsRoutes,
  ]
  for (const plugin of [...own, ...(options.plugins ?? [])]) {
    app.register(async (scope) => plugin(scope.withTypeProvider<TypeBoxTypeProvider>(), context))
  }
  app.register(async () => otherMethods.finish())

  let force: NodeJS.Timeout | undefined
  app.addHook('preClose', async () => {
    app.drain()
    signals.abortAll()
    force = setTimeout(() => app.server.closeAllConnections(), closeGraceMs)
  })
  app.addHook('onClose', async () => clearTimeout(force))
  return app
}

/**
 * Resolves when nobody waits at the port any more: those who have connected are told to come later, while a port that closes
 * cuts them. Between two immediates the event loop looks at the port, and takes one.
 */
async function takeIn(server: Server): Promise<void> {
  let taken = 0
  const onConnection = (): void => void taken++
  server.on('connection', onConnection)
  for (let round = 0, before = -1; before !== taken && round < mostTakenIn; round += 1) {
    before = taken
    await setImmediate()
    await setImmediate()
  }
  server.off('connection', onConnection)
}

/** Opens the port and answers its URL. Rejects with CONFIG_INVALID when the address can't be had. */
export async function listen(app: App, address: ListenAddress): Promise<string> {
  const shown = `${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`
  try {
    return await app.listen({ host: address.host, port: address.port })
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    const { why, remedy } = listenProblems[code] ?? { why: String((error as Error).message), remedy: '' }
    throw new BerthError(
      'CONFIG_INVALID',
      `Berth can't listen on ${shown}: ${why}.`,
      {
        field: 'listen',
        address: shown,
        remedy: `${remedy}Set another address with \`listen\` in berth.yaml or BERTH_LISTEN.`,
      },
      { cause: error },
    )
  }
}

const listenProblems: Readonly<Record<string, { readonly why: string; readonly remedy: string }>> = {
  EADDRINUSE: { why: 'another program listens there', remedy: 'If that is another Berth, stop it with `berth down`. ' },
  EACCES: { why: 'the system does not let this user have it', remedy: 'Ports below 1024 need a privilege. ' },
  EADDRNOTAVAIL: { why: 'this machine has no such address', remedy: '' },
  ENOTFOUND: { why: 'the name is not known', remedy: '' },
}

/** A request so broken that there is none: bad HTTP, headers that are too large or too late. */
function answerBrokenRequest(error: Error & { code?: string }, socket: Socket): void {
  // Part of an answer may be on its way already; then there is nothing more to say on this connection.
  if (error.code === 'ECONNRESET' || !socket.writable || socket.bytesWritten > 0) {
    socket.destroy()
    return
  }
  const [status, message] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ['431 Request Header Fields Too Large', 'The headers of the request are too large.']
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ['408 Request Timeout', 'The request did not come in time.']
        : ['400 Bad Request', 'The request is not valid HTTP.']
  const body = errorJson(new BerthError('REQUEST_INVALID', message), undefined, makeRequestId(undefined))
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json; charset=utf-8\r\n` +
      `content-length: ${Buffer.byteLength(body)}\r\nx-should-retry: false\r\nconnection: close\r\n\r\n${body}`,
  )
}
