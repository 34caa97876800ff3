import { Type } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { sendRecords } from '../line-stream.ts'
import { errorAnswers, eventSchema } from '../schemas.ts'
import type { RouteContext } from './context.ts'

/** A client that takes nothing for so long is dropped. */
const stalledMs = 30_000

/** Every state change with its cause, as it happens. */
export function eventRoutes(app: App, { telemetry, signals }: RouteContext): void {
  const id = Type.Integer({ minimum: 0 })
  app.get(
    '/api/events',
    {
      exposeHeadRoute: false,
      schema: {
        summary: 'Events from now on, or from the one after `Last-Event-ID`',
        description:
          'Server-sent events; NDJSON for `Accept: application/x-ndjson`. The last 5,000 events of this run are kept; a client ' +
          'that resumes from before them gets an event of type `missed` first.',
        tags: ['system'],
        headers: Type.Object({ 'last-event-id': Type.Optional(id) }),
        querystring: Type.Object({
          after: Type.Optional(
            Type.Integer({ minimum: 0, description: 'As `Last-Event-ID`, which wins; 0 begins with the oldest kept' }),
          ),
          tail: Type.Optional(Type.Integer({ minimum: 0, description: 'Begin with so many of the last kept' })),
          follow: Type.Optional(Type.Boolean({ default: true, description: 'False ends with the last kept' })),
          module: Type.Optional(Type.String({ minLength: 1, description: 'Only events of this module' })),
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
      const { after: asked, ...query } = request.query
      const after = request.headers['last-event-id'] ?? asked
      const signal = signals.of(reply)
      const events = telemetry.events.subscribe({ ...query, signal, ...(after === undefined ? {} : { after }) })
      return sendRecords(reply, events, {
        format: request.headers.accept?.includes('application/x-ndjson') === true ? 'ndjson' : 'sse',
        signal,
        id: (event) => event.id,
        stalledMs,
      })
    },
  )
}
