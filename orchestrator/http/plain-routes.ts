import type { Socket } from 'node:net'
import { takePlainRequests } from '../../module-runner/plain-http/connections.ts'
import type { PlainReply } from '../../module-runner/plain-http/plain-reply.ts'
import type { PlainRequest } from '../../module-runner/plain-http/request.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { HttpMeter, Metrics } from '../telemetry/metrics.ts'
import type { App } from './app.ts'
import type { Caller } from './auth/authenticator.ts'
import { errorHeaders, errorJson, logError, toHttpError } from './errors.ts'
import type { Gate } from './gate.ts'
import { parseJsonBody } from './json-body.ts'
import type { PlainCall, PlainRoute } from './plain-route.ts'
import { makeRequestId } from './request-id.ts'

export interface PlainRoutesOptions {
  readonly gate: Gate
  readonly metrics: Metrics
  readonly logger: Logger
  readonly bodyLimitBytes: number
}

const json = /^application\/json(?:; ?charset=utf-8)?$/i

/** Call before any route is registered. */
export function takePlainRoutes(app: App, options: PlainRoutesOptions): void {
  const { gate, metrics, logger, bodyLimitBytes } = options
  const routes: (PlainRoute & { readonly before: string; readonly after: string; readonly meter: HttpMeter })[] = []
  app.decorate('plainRoute', (route: PlainRoute) => {
    const [before = '', after = ''] = route.url.split(/:\w+/)
    routes.push({ ...route, before, after, meter: metrics.http(route.url, 'POST') })
  })
  const verbose = logger.isLevelEnabled('debug')

  function take({ path, headers, body }: PlainRequest, reply: PlainReply, socket: Socket): boolean {
    const began = performance.now()
    const route = routes.find(({ before, after }) => path.startsWith(before) && path.endsWith(after))
    if (route === undefined || body.length > bodyLimitBytes || !json.test(headers['content-type'] ?? '')) return false
    const parameter = path.slice(route.before.length, -route.after.length)
    if (parameter === '' || parameter.length > longestParameter || parameter.includes('/')) return false
    const id = makeRequestId(headers['x-request-id'])
    let caller: Caller
    let value: unknown
    try {
      caller = gate.admit(headers, socket.remoteAddress ?? '', 'infer', false)
      value = parseJsonBody(body)
    } catch {
      return false
    }
    if (!route.isValid(value)) return false
    const about = { id, method: 'POST', url: path }
    const refuse: PlainCall['refuse'] = (error, more) => {
      logError(logger, about, error)
      if (reply.destroyed) return
      const type = { 'content-type': 'application/json; charset=utf-8' }
      reply.writeHead(error.status, { 'x-request-id': id, ...more, ...errorHeaders(error), ...type })
      reply.end(errorJson(error, caller, id))
    }
    reply.on('close', () => {
      const ms = performance.now() - began
      const status = reply.writableEnded ? reply.statusCode : 499
      route.meter.answered(status, ms)
      if (!verbose) return
      const { id: requestId, ...rest } = about
      logger.debug({ requestId, ...rest, status, ms: Math.round(ms) }, 'answered')
    })
    try {
      route.handle({ id, caller, parameter, body: value, accept: headers.accept ?? '', reply, refuse })
    } catch (error) {
      refuse(toHttpError(error))
    }
    return true
  }

  const plain = takePlainRequests(app.server, take)
  let force: NodeJS.Timeout | undefined
  app.addHook('preClose', async () => {
    plain.end()
    force = setTimeout(() => plain.destroy(), closeGraceMs)
  })
  app.addHook('onClose', async () => clearTimeout(force))
}

/** Of a path; a name may not be longer. */
export const longestParameter = 1_000
/** As long as fastify's own connections have (server.ts). */
export const closeGraceMs = 2_000
