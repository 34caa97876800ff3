import { Type } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { errorAnswers } from '../schemas.ts'
import type { RouteContext } from './context.ts'

const readinessLimitMs = 5_000

/** Whether the process lives, whether it can work, and its figures. */
export function healthRoutes(app: App, { services, telemetry }: RouteContext): void {
  const healthy = Type.Object({ status: Type.Literal('ok') })
  app.get(
    '/healthz',
    { config: { access: 'open' }, schema: { summary: 'Live', tags: ['health'], response: { 200: healthy } } },
    () => ({ status: 'ok' as const }),
  )

  const readiness = Type.Object({
    ready: Type.Boolean(),
    reasons: Type.Array(Type.String(), { description: 'Why not; empty when ready' }),
  })
  app.get(
    '/readyz',
    {
      config: { access: 'open' },
      schema: {
        summary: 'Ready: the engine answers and the store is open',
        tags: ['health'],
        response: { 200: readiness, 503: readiness },
      },
    },
    async (_request, reply) => {
      const reasons = app.isDraining() ? ['shutting down'] : await reasonsWithin(services.system.readiness())
      return reply.code(reasons.length === 0 ? 200 : 503).send({ ready: reasons.length === 0, reasons: [...reasons] })
    },
  )

  app.get(
    '/metrics',
    {
      config: { access: 'metrics' },
      schema: {
        summary: 'Figures for Prometheus',
        tags: ['health'],
        response: {
          200: { description: 'Prometheus text format 0.0.4', content: { 'text/plain': { schema: Type.String() } } },
          ...errorAnswers(),
        },
      },
    },
    async (_request, reply) => reply.type(telemetry.metrics.contentType).send(await telemetry.metrics.expose()),
  )
}

async function reasonsWithin(asked: Promise<readonly string[]>): Promise<readonly string[]> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<readonly string[]>((resolve) => {
    timer = setTimeout(() => resolve([`no answer within ${readinessLimitMs / 1000} s`]), readinessLimitMs)
  })
  try {
    return await Promise.race([asked, late])
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  } finally {
    clearTimeout(timer)
  }
}
