import { Type } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { lineFormat, sendRecords } from '../line-stream.ts'
import { errorAnswers, logRecordSchema, moduleParams } from '../schemas.ts'
import type { RouteContext } from './context.ts'

/** A module's log as it is kept, and as it grows. */
export function moduleLogRoutes(app: App, { services, signals }: RouteContext): void {
  app.get(
    '/api/modules/:id/logs',
    {
      exposeHeadRoute: false,
      schema: {
        summary: "A module's log, oldest line first",
        description: 'NDJSON, or server-sent events for `Accept: text/event-stream`.',
        tags: ['modules'],
        params: moduleParams,
        headers: Type.Object({ 'last-event-id': Type.Optional(Type.Integer({ minimum: 0 })) }),
        querystring: Type.Object({
          follow: Type.Optional(
            Type.Boolean({ default: false, description: 'Go on with lines to come, until the client leaves' }),
          ),
          tail: Type.Optional(Type.Integer({ minimum: 0, description: 'Only so many of the last lines' })),
          after: Type.Optional(
            Type.Integer({ minimum: 0, description: 'Only lines after the one with this id, as `Last-Event-ID`' }),
          ),
        }),
        response: {
          200: {
            description: 'One record a line',
            content: {
              'application/x-ndjson': { schema: logRecordSchema },
              'text/event-stream': { schema: logRecordSchema },
            },
          },
          ...errorAnswers('MODULE_NOT_FOUND'),
        },
      },
    },
    async (request, reply) => {
      const { id } = services.modules.get(request.params.id)
      const { follow = false, tail, after: asked } = request.query
      const after = request.headers['last-event-id'] ?? asked
      const signal = signals.of(reply)
      const from = after === undefined ? (tail === undefined ? {} : { tail }) : { after }
      const records = services.modules.logs(id, { follow, signal, ...from })
      return sendRecords(reply, records, { format: lineFormat(request.headers.accept), signal, id: ({ id }) => id })
    },
  )
}
