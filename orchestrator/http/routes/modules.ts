import { Type } from '@fastify/type-provider-typebox'
import type { FastifyReply } from 'fastify'
import type { JsonObject } from '../../domain/json.ts'
import type { ModuleView } from '../../domain/views.ts'
import type { App } from '../app.ts'
import { errorAnswers, moduleParams, moduleSchema, waitQuery } from '../schemas.ts'
import type { ActionOptions } from '../services.ts'
import type { RouteContext } from './context.ts'

const tags = ['modules']

/** What is done with modules: list, add, remove, switch on and off. */
export function moduleRoutes(app: App, { services, signals }: RouteContext): void {
  const { modules } = services

  app.get(
    '/api/modules',
    {
      schema: {
        summary: 'Every module that Berth knows',
        tags,
        response: { 200: Type.Object({ modules: Type.Array(moduleSchema) }), ...errorAnswers() },
      },
    },
    () => ({ modules: [...modules.list()] }),
  )

  app.get(
    '/api/modules/:id',
    {
      schema: {
        summary: 'One module',
        tags,
        params: moduleParams,
        response: { 200: moduleSchema, ...errorAnswers('MODULE_NOT_FOUND') },
      },
    },
    (request) => modules.get(request.params.id),
  )

  const accepted = { 200: moduleSchema, 202: moduleSchema }
  app.post(
    '/api/modules',
    {
      schema: {
        summary: 'Add a module',
        tags,
        querystring: waitQuery,
        body: Type.Object(
          {
            source: Type.String({
              minLength: 1,
              description: 'An image reference, or the path of a folder with a module',
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          ...accepted,
          ...errorAnswers(
            'MANIFEST_INVALID',
            'DEPENDENCY_CONFLICT',
            'IMAGE_UNAVAILABLE',
            'ENGINE_UNAVAILABLE',
            'ENGINE_UNSUPPORTED',
          ),
        },
      },
    },
    async (request, reply) => {
      const { wait = false } = request.query
      return answer(reply, wait, await modules.add(request.body.source, { wait, signal: signals.of(reply) }))
    },
  )

  app.delete(
    '/api/modules/:id',
    {
      schema: {
        summary: "Stop and remove a module; a user's own folder stays",
        tags,
        params: moduleParams,
        querystring: waitQuery,
        response: {
          202: moduleSchema,
          204: Type.Null({ description: 'It is gone' }),
          ...errorAnswers('MODULE_NOT_FOUND', 'ENGINE_UNAVAILABLE'),
        },
      },
    },
    async (request, reply) => {
      const { wait = false } = request.query
      const going = await modules.remove(request.params.id, { wait, signal: signals.of(reply) })
      return going === undefined ? reply.code(204).send(null) : reply.code(202).send(going)
    },
  )

  const actions: Readonly<
    Record<string, { summary: string; act: (id: string, options: ActionOptions) => Promise<ModuleView> }>
  > = {
    enable: { summary: 'Let a module run', act: (id, options) => modules.enable(id, options) },
    disable: { summary: 'Drain a module and stop it', act: (id, options) => modules.disable(id, options) },
    restart: { summary: 'Stop a module and start it afresh', act: (id, options) => modules.restart(id, options) },
  }
  for (const [name, { summary, act }] of Object.entries(actions)) {
    app.post(
      `/api/modules/:id/${name}`,
      {
        schema: {
          summary,
          tags,
          params: moduleParams,
          querystring: waitQuery,
          response: {
            ...accepted,
            ...errorAnswers(
              'MODULE_NOT_FOUND',
              'MANIFEST_INVALID',
              'REQUIREMENTS_FAILED',
              'START_TIMEOUT',
              'ENGINE_UNAVAILABLE',
            ),
          },
        },
      },
      async (request, reply) => {
        const { wait = false } = request.query
        return answer(reply, wait, await act(request.params.id, { wait, signal: signals.of(reply) }))
      },
    )
  }
}

/** SERVICE_LOAD_MODELS and SERVICE_OFFLOAD_MODELS, literally. */
export function moduleRpcRoutes(app: App, { services, signals }: RouteContext): void {
  app.post(
    '/api/modules/:id/rpc/load',
    {
      schema: {
        summary: 'Load models with these configurations and wait for it',
        tags,
        params: moduleParams,
        body: Type.Object(
          {
            models: Type.Unsafe<Record<string, JsonObject>>({
              type: 'object',
              additionalProperties: { type: 'object', additionalProperties: true },
              description: 'Name of a model -> its configuration',
            }),
          },
          { additionalProperties: false },
        ),
        response: {
          200: Type.Object({ loaded: Type.Array(Type.String()) }),
          ...errorAnswers(
            'MODULE_NOT_FOUND',
            'MODULE_DISABLED',
            'LOAD_FAILED',
            'LOAD_TIMEOUT',
            'OUT_OF_MEMORY',
            'WORKLOAD_EXITED',
          ),
        },
      },
    },
    async (request, reply) => ({
      loaded: [...(await services.modules.load(request.params.id, request.body.models, signals.of(reply)))],
    }),
  )

  app.post(
    '/api/modules/:id/rpc/offload',
    {
      schema: {
        summary: 'Offload models; names that are not loaded are left out',
        tags,
        params: moduleParams,
        body: Type.Object({ models: Type.Array(Type.String()) }, { additionalProperties: false }),
        response: {
          200: Type.Object({ offloaded: Type.Array(Type.String()) }),
          ...errorAnswers('MODULE_NOT_FOUND', 'MODULE_DISABLED'),
        },
      },
    },
    async (request, reply) => ({
      offloaded: [...(await services.modules.offload(request.params.id, request.body.models, signals.of(reply)))],
    }),
  )
}

/** 200 when the work was waited for, 202 while it goes on. */
function answer(reply: FastifyReply, waited: boolean, view: ModuleView): FastifyReply {
  return reply.code(waited ? 200 : 202).send(view)
}
