import { Type } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { sendRecords } from '../line-stream.ts'
import { errorAnswers, eventSchema } from '../schemas.ts'
import type { RouteContext } from './context.ts'

/** Every state change with its cause, as it happens. */
export function eventRoutes(app: App, { telemetry, signals }: RouteContext): void {
  const id = Type.Integer({ minimum: 0 })
  app.get(
    '/api/events',
    {
      exposeHeadRoute: false,
      schema: {
        summary: 'Events from now on, or from the one after `Last-Event-ID`',
        description: 'Server-sent events; NDJSON for `Accept: application/x-ndjson`. The last 1,000 events are kept.',
        tags: ['system'],
        headers: Type.Object({ 'last-event-id': Type.Optional(id) }),
        querystring: Type.Object({
          after: Type.Optional(
            Type.Integer({ minimum: 0, description: 'As `Last-Event-ID`; 0 begins with the oldest kept' }),
          ),
        }),
        response: {
          200: {
            description: 'One event a record',
            content: { 'text/event-stream': { schema: eventSchema }, 'application/x-ndjson': { schema: eventSchema } },
          },
          ...errorAnswers(),
        },
      },
    },
    async (request, reply) => {
      const after = request.headers['last-event-id'] ?? request.query.after
      const signal = signals.of(reply)
      const oldest = telemetry.events.recent()[0]?.id
      const missing = after !== undefined && after > 0 && oldest !== undefined && after < oldest - 1
      const events = telemetry.events.subscribe({ signal, ...(after === undefined ? {} : { after }) })
      return sendRecords(reply, events, {
        format: request.headers.accept?.includes('application/x-ndjson') === true ? 'ndjson' : 'sse',
        signal,
        id: (event) => event.id,
        ...(missing ? { comment: `events before ${oldest} are no longer kept` } : {}),
      })
    },
  )
}
