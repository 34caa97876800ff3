import type { IncomingHttpHeaders } from 'node:http'
import type { FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { BerthError } from '../domain/errors.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { App } from './app.ts'
import type { Access, Authenticator, Caller } from './auth/authenticator.ts'
import type { HostCheck } from './auth/host-check.ts'

export interface GateOptions {
  readonly authenticator: Authenticator
  /** Only where there are no keys. */
  readonly hostCheck?: HostCheck
  readonly metrics: Metrics
  readonly logger: Logger
}

export interface Gate {
  /** Answers who sends a request, or throws why it may not come in. */
  admit(headers: IncomingHttpHeaders, address: string, access: Access, whileDraining: boolean): Caller
}

/**
 * What every request passes before anything of it is read: may it come in at all, who sends it, is there still work to be
 * had; and what is counted when it is answered. Resolved per route when the route is made, so that a request looks nothing up.
 */
export function guardRoutes(app: App, options: GateOptions): Gate {
  let draining = false
  app.decorate('drain', () => {
    draining = true
  })
  app.decorate('isDraining', () => draining)
  app.decorateRequest('caller')

  const admit: Gate['admit'] = (headers, address, access, whileDraining) => {
    let caller: Caller = { id: `address:${address}`, admin: false }
    if (access !== 'open') {
      options.hostCheck?.check(headers)
      caller = options.authenticator.authenticate(headers, address, access)
    }
    if (draining && !whileDraining) {
      throw new BerthError('SHUTTING_DOWN', 'Berth is shutting down and takes no new work.')
    }
    return caller
  }
  const enter = (request: FastifyRequest, reply: FastifyReply, access: Access, whileDraining: boolean): void => {
    reply.header('x-request-id', request.id)
    if (request.headers.host === undefined && request.raw.httpVersion === '1.1') {
      throw new BerthError('REQUEST_INVALID', 'The request has no header Host.', { field: 'host' })
    }
    request.caller = admit(request.headers, request.ip, access, whileDraining)
  }

  app.addHook('onRoute', (route) => {
    const access = route.config?.access ?? (isDocs(route) ? 'infer' : 'admin')
    const reads = [route.method].flat().every((method) => method === 'GET' || method === 'HEAD')
    const whileDraining = route.config?.whileDraining ?? reads
    const meters = new Map([route.method].flat().map((method) => [method, options.metrics.http(route.url, method)]))
    const only = meters.size === 1 ? meters.values().next().value : undefined
    route.onRequest = [
      (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => {
        try {
          enter(request, reply, access, whileDraining)
        } catch (error) {
          done(error as Error)
          return
        }
        done()
      },
      ...[route.onRequest ?? []].flat(),
    ]
    route.onResponse = [
      (request: FastifyRequest, reply: FastifyReply, done: () => void) => {
        const meter = only ?? meters.get(request.method)
        meter?.answered(statusOf(reply), reply.elapsedTime)
        done()
      },
      ...[route.onResponse ?? []].flat(),
    ]
  })

  const verbose = options.logger.isLevelEnabled('debug')
  const unmatched = options.metrics.http('unmatched', 'any')
  app.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) {
      done()
      return
    }
    try {
      enter(request, reply, 'infer', true)
    } catch (error) {
      done(error as Error)
      return
    }
    done()
  })
  app.addHook('onResponse', (request, reply, done) => {
    if (request.is404) unmatched.answered(statusOf(reply), reply.elapsedTime)
    if (verbose) {
      options.logger.debug(
        {
          requestId: request.id,
          method: request.method,
          url: request.url.slice(0, 200),
          status: statusOf(reply),
          ms: Math.round(reply.elapsedTime),
        },
        'answered',
      )
    }
    done()
  })
  return { admit }
}

/** 499 where the client did not stay for the answer. */
function statusOf(reply: FastifyReply): number {
  return reply.raw.writableEnded ? reply.statusCode : 499
}

function isDocs(route: RouteOptions): boolean {
  return route.url === '/docs' || route.url.startsWith('/docs/')
}
