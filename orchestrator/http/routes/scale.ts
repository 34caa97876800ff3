import { Type } from '@fastify/type-provider-typebox'
import { BerthError } from '../../domain/errors.ts'
import { mostReplicas, type Scale } from '../../domain/manifest.ts'
import type { ModuleView } from '../../domain/views.ts'
import type { App } from '../app.ts'
import { errorAnswers, moduleParams, moduleSchema, waitQuery } from '../schemas.ts'
import type { RouteContext } from './context.ts'

const replicas = (description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum: mostReplicas, description }))

const ScaleBody = Type.Object(
  {
    min: replicas('Replicas that always run'),
    max: replicas('Replicas at most; 0: it does not run'),
    replicas: replicas('Exactly so many: min and max at once'),
  },
  { additionalProperties: false },
)

const scaledAnswer = Type.Object({
  min: Type.Integer(),
  max: Type.Integer(),
  replicas: Type.Integer({ description: 'Replicas that there are now' }),
  module: moduleSchema,
})

/** How many replicas a module may have. */
export function scaleRoutes(app: App, { services, signals }: RouteContext): void {
  const url = '/api/modules/:id/scale'
  const schema = {
    tags: ['modules'],
    params: moduleParams,
    querystring: waitQuery,
    response: {
      200: scaledAnswer,
      202: scaledAnswer,
      ...errorAnswers(
        'MODULE_NOT_FOUND',
        'REQUIREMENTS_FAILED',
        'START_TIMEOUT',
        'GPU_UNAVAILABLE',
        'ENGINE_UNAVAILABLE',
      ),
    },
  }

  app.put(
    url,
    {
      schema: {
        ...schema,
        summary: 'Say how many replicas a module may have; holds until it is said anew',
        description: 'Either `min` and `max`, or `replicas`.',
        body: ScaleBody,
      },
    },
    async (request, reply) => {
      const { wait = false } = request.query
      const options = { wait, signal: signals.of(reply) }
      const view = await services.modules.scale(request.params.id, readScale(request.body), options)
      return reply.code(wait ? 200 : 202).send(scaledView(view))
    },
  )

  app.delete(
    url,
    { schema: { ...schema, summary: "Let the module's own `scale` hold again" } },
    async (request, reply) => {
      const { wait = false } = request.query
      const view = await services.modules.scale(request.params.id, undefined, { wait, signal: signals.of(reply) })
      return reply.code(wait ? 200 : 202).send(scaledView(view))
    },
  )
}

function readScale({ min, max, replicas: exactly }: { min?: number; max?: number; replicas?: number }): Scale {
  if (exactly !== undefined) {
    if (min !== undefined || max !== undefined)
      throw invalid('replicas', '`replicas` stands for both `min` and `max`: send either it or those.')
    return { min: exactly, max: exactly }
  }
  if (min === undefined && max === undefined)
    throw invalid('replicas', '`replicas` is missing: send it, or `min` and `max`.')
  if (min === undefined) throw invalid('min', '`min` is missing beside `max`.')
  if (max === undefined) throw invalid('max', '`max` is missing beside `min`.')
  if (min > max) throw invalid('min', `\`min\` (${min}) must not be above \`max\` (${max}).`)
  return { min, max }
}

function invalid(field: string, message: string): BerthError {
  return new BerthError('REQUEST_INVALID', message, { in: 'body', field })
}

function scaledView(module: ModuleView) {
  const there = module.replicas.filter(({ state }) => !['absent', 'failed', 'stopping'].includes(state))
  return { min: module.scale?.min ?? 0, max: module.scale?.max ?? 0, replicas: there.length, module }
}
