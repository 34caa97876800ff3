import { Type } from '@fastify/type-provider-typebox'
import { type KeyScope, keyScopes } from '../../domain/api-key.ts'
import { type Priority, priorities } from '../../domain/priority.ts'
import type { App } from '../app.ts'
import { errorAnswers, keySchema } from '../schemas.ts'
import type { RouteContext } from './context.ts'

const tags = ['keys']

const KeyBody = Type.Object(
  {
    name: Type.String({
      pattern: '^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$',
      description: 'Letters, digits and `._@-`; what logs, the queue and modules know it by',
    }),
    scopes: Type.Optional(
      Type.Array(Type.Unsafe<KeyScope>({ enum: [...keyScopes] }), {
        minItems: 1,
        uniqueItems: true,
        default: ['infer'],
      }),
    ),
    models: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 200 }), {
        minItems: 1,
        maxItems: 1_000,
        uniqueItems: true,
        description: 'Models that it may use; absent: all',
      }),
    ),
    expiresAt: Type.Optional(Type.String({ description: 'ISO 8601; absent: never' })),
    priority: Type.Optional(Type.Unsafe<Priority>({ enum: [...priorities], default: 'normal' })),
  },
  { additionalProperties: false },
)

/** API keys: who may do what. A secret is in the answer that makes it and nowhere else. */
export function keyRoutes(app: App, { services }: RouteContext): void {
  const { keys } = services

  app.get(
    '/api/keys',
    {
      schema: {
        summary: 'Every API key, without its secret',
        tags,
        response: {
          200: Type.Object({
            required: Type.Boolean({ description: 'Requests need one (`auth: keys`)' }),
            keys: Type.Array(keySchema),
          }),
          ...errorAnswers(),
        },
      },
    },
    () => ({ required: keys.required, keys: [...keys.list()] }),
  )

  app.post(
    '/api/keys',
    {
      schema: {
        summary: 'Make an API key; its secret is shown this once',
        tags,
        body: KeyBody,
        response: {
          201: Type.Object({ secret: Type.String({ description: 'What clients send' }), key: keySchema }),
          ...errorAnswers(),
        },
      },
    },
    async (request, reply) => {
      const { name, scopes = ['infer'], models, expiresAt, priority = 'normal' } = request.body
      const wish = {
        name,
        scopes,
        ...(models === undefined ? {} : { models }),
        ...(expiresAt === undefined ? {} : { expiresAt }),
        priority,
      }
      const { key, secret } = keys.add(wish, request.caller.id)
      return reply.code(201).header('cache-control', 'no-store').send({ secret, key })
    },
  )

  app.delete(
    '/api/keys/:name',
    {
      schema: {
        summary: 'Remove an API key; from now on it is UNAUTHORIZED',
        tags,
        params: Type.Object({ name: Type.String({ minLength: 1, description: 'Name of a key' }) }),
        response: { 204: Type.Null({ description: 'It is gone' }), ...errorAnswers('NOT_FOUND') },
      },
    },
    async (request, reply) => {
      keys.remove(request.params.name, request.caller.id)
      return reply.code(204).send(null)
    },
  )
}
