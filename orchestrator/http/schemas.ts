/**
 * The API's shapes as JSON Schema (api.md, "Shapes that clients build on"). Answers may hold more fields than these: the
 * schemas document them and never take anything out.
 */
import { Type } from '@fastify/type-provider-typebox'
import type { TSchema } from 'typebox'
import { type KeyView, keyScopes } from '../domain/api-key.ts'
import { type ErrorBody, type ErrorCode, errorTable } from '../domain/errors.ts'
import { priorities } from '../domain/priority.ts'
import { replicaStates } from '../domain/replica.ts'
import type { BerthEvent, LogRecord, ModelView, ModuleView } from '../domain/views.ts'

const text = (description?: string) => Type.String(description === undefined ? {} : { description })
const oneOf = <const Names extends readonly string[]>(names: Names, description?: string) =>
  Type.Unsafe<Names[number]>({
    type: 'string',
    enum: [...names],
    ...(description === undefined ? {} : { description }),
  })
const state = oneOf(replicaStates)
const isoTime = Type.String({ description: 'ISO 8601' })
const count = Type.Integer({ minimum: 0 })

const errorBody = Type.Object({
  code: oneOf(Object.keys(errorTable) as ErrorCode[]),
  message: text('What happened, to which module, and what to do'),
  retryable: Type.Boolean({ description: 'The same request may succeed later, without a change' }),
  origin: oneOf(['orchestrator', 'module']),
  requestId: Type.Optional(Type.String()),
  details: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
})

const replica = Type.Object({
  id: text(),
  generation: count,
  state,
  container: Type.Optional(text('What `docker inspect` takes')),
  gpus: Type.Array(Type.String()),
  models: Type.Array(Type.String()),
  inflight: count,
  restarts: count,
  error: Type.Optional(errorBody),
})

/** Shared shapes by name: they become `components/schemas` of the OpenAPI document. */
const shared = {
  Error: Type.Object({ error: errorBody }),
  Module: Type.Object({
    id: text(),
    format: oneOf(['service', 'block', 'reactory', 'image']),
    version: Type.Optional(text()),
    description: Type.Optional(text()),
    desired: oneOf(['enabled', 'disabled']),
    state: oneOf(replicaStates, "The best replica's state"),
    source: text('Folder path or image reference'),
    scale: Type.Optional(
      Type.Object({ min: count, max: count }, { description: 'How many replicas always run, and how many at most' }),
    ),
    replicas: Type.Array(replica),
    models: Type.Array(Type.String()),
    environment: Type.Optional(
      Type.Object({
        key: text(),
        state: oneOf(['absent', 'installing', 'ready', 'failed']),
        bytes: Type.Optional(count),
      }),
    ),
    error: Type.Optional(errorBody),
    security: Type.Object({
      score: Type.Number({ minimum: 0, maximum: 100, description: 'How well the engine confines this module' }),
      findings: Type.Array(Type.String()),
    }),
    progress: Type.Optional(
      Type.Object({
        phase: oneOf(['image', 'environment', 'files', 'start', 'load']),
        message: text(),
        current: Type.Optional(Type.Number()),
        total: Type.Optional(Type.Number()),
      }),
    ),
  }),
  Model: Type.Object({
    name: text(),
    module: text(),
    state,
    replicas: Type.Array(Type.String(), { description: 'Replicas that have it loaded' }),
    queued: count,
    inflight: count,
    lastUsed: Type.Optional(isoTime),
    error: Type.Optional(errorBody),
  }),
  Key: Type.Object({
    name: text(),
    scopes: Type.Array(oneOf(keyScopes)),
    models: Type.Optional(Type.Array(Type.String(), { description: 'Models that it may use; absent: all' })),
    priority: oneOf(priorities, 'What its requests have where they wait, and the most that they can ask for'),
    expiresAt: Type.Optional(isoTime),
    createdAt: isoTime,
  }),
  LogRecord: Type.Object({
    id: Type.Optional(Type.Integer({ description: 'From which a client resumes' })),
    time: isoTime,
    level: oneOf(['debug', 'info', 'warning', 'error', 'critical']),
    source: oneOf(['module', 'runner', 'installer', 'orchestrator']),
    message: text(),
    replica: Type.Optional(text()),
  }),
  Event: Type.Object({
    id: Type.Integer(),
    time: isoTime,
    type: text(),
    module: Type.Optional(text()),
    replica: Type.Optional(text()),
    from: Type.Optional(text()),
    to: Type.Optional(text()),
    cause: text(),
  }),
}

/** To be added to the app before its routes, so that they can be referred to. */
export const sharedSchemas: readonly (TSchema & { readonly $id: string })[] = Object.entries(shared).map(
  ([name, schema]) => ({ ...schema, $id: name }),
)

const ref = <T>(name: keyof typeof shared, description: string) => Type.Unsafe<T>({ $ref: `${name}#`, description })

export const moduleSchema = ref<ModuleView>('Module', 'The module')
export const modelSchema = ref<ModelView>('Model', 'The model')
export const keySchema = ref<KeyView>('Key', 'The key')
export const logRecordSchema = ref<LogRecord>('LogRecord', 'A line of the log')
export const eventSchema = ref<BerthEvent>('Event', 'A state change with its cause')

export const moduleParams = Type.Object({ id: Type.String({ minLength: 1, description: 'Id of a module' }) })
export const modelParams = Type.Object({ name: Type.String({ minLength: 1, description: 'Name of a model' }) })
export const waitQuery = Type.Object({
  wait: Type.Optional(
    Type.Boolean({ default: false, description: 'Answer when the work is done, instead of 202 at once' }),
  ),
})

/**
 * The error answers of a route: those it names and those that every route has. A status that several codes share is one
 * entry that lists them.
 */
export function errorAnswers(...codes: readonly ErrorCode[]): Record<number, TSchema> {
  const byStatus = new Map<number, ErrorCode[]>()
  const always: readonly ErrorCode[] = ['REQUEST_INVALID', 'UNAUTHORIZED', 'FORBIDDEN', 'INTERNAL']
  for (const code of [...codes, ...always]) {
    const { status } = errorTable[code]
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  return Object.fromEntries(
    Array.from(byStatus, ([status, names]) => [status, ref<{ error: ErrorBody }>('Error', names.join(', '))]),
  )
}
