import { Type } from '@fastify/type-provider-typebox'
import { errorFor } from '../../domain/error-visibility.ts'
import type { ModelView, ModuleView } from '../../domain/views.ts'
import type { App } from '../app.ts'
import { type Caller, mayUse, modelForbidden } from '../auth/authenticator.ts'
import { errorAnswers, modelParams, modelSchema, moduleSchema, waitQuery } from '../schemas.ts'
import type { ActionOptions } from '../services.ts'
import type { RouteContext } from './context.ts'

const tags = ['models']

/** Models by name, whichever module serves them. */
export function modelRoutes(app: App, { services, signals }: RouteContext): void {
  const { models } = services

  app.get(
    '/api/models',
    {
      config: { access: 'infer' },
      schema: {
        summary: 'Every model that the caller can ask for',
        tags,
        response: { 200: Type.Object({ models: Type.Array(modelSchema) }), ...errorAnswers() },
      },
    },
    ({ caller }) => ({
      models: models
        .list()
        .filter(({ name }) => mayUse(caller, name, models.resolve(name).model))
        .map((view) => seen(view, caller)),
    }),
  )

  app.get(
    '/api/models/:name',
    {
      config: { access: 'infer' },
      schema: {
        summary: 'One model',
        tags,
        params: modelParams,
        response: { 200: modelSchema, ...errorAnswers('MODEL_NOT_FOUND') },
      },
    },
    ({ caller, params: { name } }) => {
      if (!mayUse(caller, name, models.resolve(name).model)) throw modelForbidden(caller, name)
      return seen(models.get(name), caller)
    },
  )

  const actions: Readonly<
    Record<
      string,
      {
        summary: string
        act: (name: string, options: ActionOptions & { readonly caller: string }) => Promise<ModuleView>
      }
    >
  > = {
    load: {
      summary: 'Load a model, starting its module where needed',
      act: (name, options) => models.load(name, options),
    },
    offload: {
      summary: 'Offload a model when its inferences are done',
      act: (name, options) => models.offload(name, options),
    },
  }
  for (const [action, { summary, act }] of Object.entries(actions)) {
    app.post(
      `/api/models/:name/${action}`,
      {
        schema: {
          summary,
          tags,
          params: modelParams,
          querystring: waitQuery,
          response: {
            200: moduleSchema,
            202: moduleSchema,
            ...errorAnswers(
              'MODEL_NOT_FOUND',
              'MODULE_DISABLED',
              'LOAD_FAILED',
              'LOAD_TIMEOUT',
              'START_TIMEOUT',
              'ENGINE_UNAVAILABLE',
            ),
          },
        },
      },
      async (request, reply) => {
        const { wait = false } = request.query
        const view = await act(request.params.name, { wait, signal: signals.of(reply), caller: request.caller.id })
        return reply.code(wait ? 200 : 202).send(view)
      },
    )
  }
}

function seen(view: ModelView, caller: Caller): ModelView {
  return view.error === undefined ? view : { ...view, error: errorFor(caller, view.error) }
}
