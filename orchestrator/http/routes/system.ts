import { Type } from '@fastify/type-provider-typebox'
import type { GpuView } from '../../domain/views.ts'
import type { App } from '../app.ts'
import { errorAnswers } from '../schemas.ts'
import type { RouteContext } from './context.ts'

const tags = ['system']

/** This instance as a whole: what it runs on, its devices, its end. */
export function systemRoutes(app: App, { services, signals }: RouteContext): void {
  const { system } = services

  app.get(
    '/api/system',
    {
      schema: {
        summary: 'Version, instance and engine',
        tags,
        response: {
          200: Type.Object({
            version: Type.String(),
            instance: Type.String({ description: 'Id that the labels of every container of this Berth carry' }),
            engine: Type.Object({
              name: Type.String(),
              description: Type.String(),
              reason: Type.String({ description: 'Why this engine was chosen' }),
            }),
          }),
          ...errorAnswers(),
        },
      },
    },
    () => ({ version: system.version, instance: system.instance, engine: system.engine }),
  )

  app.get(
    '/api/gpus',
    {
      schema: {
        summary: 'GPUs of the engine and the modules that hold them',
        tags,
        response: {
          200: Type.Object({
            gpus: Type.Array(
              Type.Object({
                id: Type.String(),
                kind: Type.String(),
                memory: Type.Optional(Type.Integer({ description: 'Bytes' })),
                used: Type.Optional(Type.Integer({ description: 'Bytes' })),
                holders: Type.Array(Type.String()),
                allocations: Type.Array(
                  Type.Object({
                    module: Type.String(),
                    replica: Type.String(),
                    exclusive: Type.Boolean({ description: 'It has the device alone' }),
                    declared: Type.Optional(Type.Integer({ description: 'Bytes that it asks for (gpu.memory)' })),
                    measured: Type.Optional(Type.Integer({ description: 'Bytes, as its runner has measured' })),
                    held: Type.Optional(Type.Integer({ description: 'Bytes that are kept for it now' })),
                  }),
                ),
              }),
            ),
          }),
          ...errorAnswers(),
        },
      },
    },
    () => ({
      gpus: system
        .gpus()
        .filter(isOneDevice)
        .map((gpu) => ({ ...gpu, holders: [...gpu.holders], allocations: [...gpu.allocations] })),
    }),
  )

  app.get(
    '/api/plan',
    {
      schema: {
        summary: 'What Berth would do now, and why; nothing is done',
        tags,
        response: {
          200: Type.Object({
            steps: Type.Array(
              Type.Object({
                action: Type.String(),
                module: Type.String(),
                replica: Type.Optional(Type.String()),
                cause: Type.String(),
              }),
            ),
          }),
          ...errorAnswers('ENGINE_UNAVAILABLE'),
        },
      },
    },
    async (_request, reply) => ({ steps: [...(await system.plan(signals.of(reply)))] }),
  )

  app.post(
    '/api/shutdown',
    {
      schema: {
        summary: 'Stop every module of this instance, then end Berth itself',
        tags,
        response: {
          200: Type.Object({ stopped: Type.Array(Type.String(), { description: 'Modules that ran' }) }),
          ...errorAnswers('SHUTTING_DOWN'),
        },
      },
    },
    // A client that leaves does not stop the stopping: the signal is one that nobody aborts.
    async () => ({ stopped: [...(await system.shutdown(new AbortController().signal)).stopped] }),
  )
}

/** CDI lists the name `all` beside the devices that it stands for. */
function isOneDevice({ id }: GpuView): boolean {
  return id !== 'all' && !id.endsWith('=all')
}
