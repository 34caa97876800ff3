import { Type } from '@fastify/type-provider-typebox'
import type { App } from '../app.ts'
import { errorAnswers } from '../schemas.ts'
import type { RouteContext } from './context.ts'

const environment = {
  key: Type.String({ description: 'Hash of everything that the environment is made of' }),
  bytes: Type.Optional(Type.Integer()),
  createdAt: Type.Optional(Type.String({ description: 'ISO 8601' })),
}

/** Installed environments, shared by every module with the same requirements. */
export function environmentRoutes(app: App, { services }: RouteContext): void {
  app.get(
    '/api/environments',
    {
      schema: {
        summary: 'Every environment on this engine, and who uses it',
        tags: ['environments'],
        response: {
          200: Type.Object({
            environments: Type.Array(Type.Object({ ...environment, modules: Type.Array(Type.String()) })),
          }),
          ...errorAnswers('ENGINE_UNAVAILABLE'),
        },
      },
    },
    async () => {
      const environments = await services.environments.list()
      return { environments: environments.map((each) => ({ ...each, modules: [...each.modules] })) }
    },
  )

  app.post(
    '/api/environments/prune',
    {
      schema: {
        summary: 'Remove the environments that no module wants',
        tags: ['environments'],
        response: {
          200: Type.Object({ removed: Type.Array(Type.Object(environment)) }),
          ...errorAnswers('ENGINE_UNAVAILABLE'),
        },
      },
    },
    async () => ({ removed: [...(await services.environments.prune())] }),
  )
}
