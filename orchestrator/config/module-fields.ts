import Type, { type Static, type TSchemaOptions } from 'typebox'
import type { GpuRequest, ModuleTimeouts } from '../domain/manifest.ts'
import { parseBytes, parseDuration } from '../domain/quantity.ts'

/**
 * What may be said of a module, in its `module.yaml` and in `module_settings` of `berth.yaml` alike: schemas and their
 * reading. Defaults stand here for the published schema; they are applied where a manifest is made (catalog).
 */
export const moduleDefaults = {
  network: 'none',
  scale: { min: 0, max: 1 },
  concurrency: 1,
  idle_ttl: 'none',
  stop_ttl: 'none',
  on_disconnect: 'cancel',
  timeouts: {
    install: '30m',
    start: '60s',
    load: '15m',
    infer: 'none',
    first_chunk: '5m',
    between_chunks: '2m',
    call: '60s',
    drain: '30s',
  },
  queue: { limit: 64, timeout: '60s' },
} as const

const closed = { additionalProperties: false } as const
const expects = (text: string): TSchemaOptions => ({ 'x-expects': text })

/** Ids of modules: they become names of containers, volumes and Python packages. */
export const moduleIdPattern = '^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$'

export const Duration = (options: TSchemaOptions) =>
  Type.Union(
    [
      Type.Number({ minimum: 0, description: 'Seconds.' }),
      Type.String({ pattern: '^(none|\\d+(\\.\\d+)?|(\\d+(\\.\\d+)?(ms|s|m|h|d))+)$' }),
    ],
    { ...expects('a duration such as 500ms, 30s, 5m, 1h30m, a number of seconds, or none'), ...options },
  )

export const Size = (options: TSchemaOptions) =>
  Type.Union(
    [
      Type.Number({ minimum: 0, description: 'Bytes.' }),
      Type.String({ pattern: '^\\d+(\\.\\d+)?\\s*([bB]|[kKmMgGtT]([iI]?[bB])?)?$' }),
    ],
    { ...expects('a size such as 512MiB or 4GB, or a number of bytes'), ...options },
  )

const Count = (minimum: number, options: TSchemaOptions = {}) =>
  Type.Integer({ minimum, maximum: 1_000_000, ...expects(`a whole number, ${minimum} or more`), ...options })

const Memory = Size({ description: 'Memory that the module needs on each device.' })

export const Gpu = Type.Union(
  [
    Type.Boolean(),
    Type.Literal('optional'),
    Type.Integer({ minimum: 1, maximum: 64 }),
    Type.Object(
      {
        count: Type.Optional(
          Type.Integer({ minimum: 1, maximum: 64, default: 1, ...expects('a whole number from 1 to 64') }),
        ),
        memory: Type.Optional(Memory),
        optional: Type.Optional(
          Type.Boolean({ default: false, description: 'Run on the CPU where no device is free.' }),
        ),
      },
      closed,
    ),
  ],
  {
    description: 'GPUs: a number, `optional` (the CPU when none is free), or {count, memory, optional}. false: none.',
    ...expects('a number of GPUs, optional, true, false or {count, memory, optional}'),
  },
)

const Timeouts = Type.Object(
  {
    install: Type.Optional(Duration({ default: '30m', description: 'Installing the requirements.' })),
    start: Type.Optional(Duration({ default: '60s', description: 'From the start to the first answer.' })),
    load: Type.Optional(Duration({ default: '15m', description: 'Loading models.' })),
    infer: Type.Optional(Duration({ default: 'none', description: 'One whole inference.' })),
    first_chunk: Type.Optional(Duration({ default: '5m', description: 'Until the first part of an answer.' })),
    between_chunks: Type.Optional(Duration({ default: '2m', description: 'Between two parts of an answer.' })),
    call: Type.Optional(Duration({ default: '60s', description: 'Any other call, offloading included.' })),
    drain: Type.Optional(Duration({ default: '30s', description: 'For what is in flight when the module stops.' })),
  },
  { ...closed, description: 'Time limits.' },
)

const Queue = Type.Object(
  {
    limit: Type.Optional(Count(0, { default: 64, description: 'Requests that may wait.' })),
    timeout: Type.Optional(Duration({ default: '60s', description: 'How long one may wait.' })),
  },
  { ...closed, description: 'Requests that wait for a free place.' },
)
export const QueueField = Queue

/** Keys that `module.yaml` and `module_settings.<id>` share. */
export const moduleFieldSchemas = {
  image: Type.Optional(
    Type.String({
      minLength: 1,
      pattern: '^\\S+$',
      description: 'Base image with Python 3; alone in a folder: an image that speaks the runner protocol.',
      ...expects('an image reference such as python:3.13-slim'),
    }),
  ),
  python: Type.Optional(
    Type.String({
      pattern: '^3\\.\\d+(\\.\\d+)?$',
      description: 'Python for the environment.',
      ...expects('a Python version such as 3.12'),
    }),
  ),
  gpu: Type.Optional(Gpu),
  resources: Type.Optional(
    Type.Object(
      {
        cpus: Type.Optional(
          Type.Number({
            exclusiveMinimum: 0,
            maximum: 4096,
            description: 'Processor cores.',
            ...expects('a number of cores such as 2 or 0.5'),
          }),
        ),
        memory: Type.Optional(Size({ description: 'Most memory that the container may take.' })),
      },
      { ...closed, description: 'Limits of the container.' },
    ),
  ),
  network: Type.Optional(
    Type.Enum(['none', 'egress'], {
      default: moduleDefaults.network,
      description: 'egress: the module may reach the network.',
    }),
  ),
  scale: Type.Optional(
    Type.Object(
      {
        min: Type.Optional(Count(0, { default: moduleDefaults.scale.min, description: 'Replicas that always run.' })),
        max: Type.Optional(Count(0, { default: moduleDefaults.scale.max, description: 'Replicas at most.' })),
        target_inflight: Type.Optional(Count(1, { description: 'Inferences in flight per replica to aim at.' })),
      },
      { ...closed, description: 'Number of replicas.' },
    ),
  ),
  concurrency: Type.Optional(
    Count(1, {
      default: moduleDefaults.concurrency,
      description: 'Inferences at once per model and replica where `max_simul_users` says nothing.',
    }),
  ),
  idle_ttl: Type.Optional(
    Duration({ default: moduleDefaults.idle_ttl, description: 'Idle time until models are offloaded.' }),
  ),
  stop_ttl: Type.Optional(
    Duration({ default: moduleDefaults.stop_ttl, description: 'Idle time until the container is stopped.' }),
  ),
  calls: Type.Optional(
    Type.Array(Type.String({ minLength: 1 }), {
      description: 'Models that the module may call through services_manager.',
    }),
  ),
  on_disconnect: Type.Optional(
    Type.Enum(['cancel', 'drain'], {
      default: moduleDefaults.on_disconnect,
      description: 'What a client that leaves does to its inference.',
    }),
  ),
  timeouts: Type.Optional(Timeouts),
  queue: Type.Optional(Queue),
  requirements: Type.Optional(
    Type.Array(Type.String({ minLength: 1, pattern: '^[^\\n]*$' }), {
      description: 'Requirements added to those of the module.',
    }),
  ),
}
const ModuleFieldsSchema = Type.Object(moduleFieldSchemas)
export type WrittenModuleFields = Static<typeof ModuleFieldsSchema>

/** The shared keys, read: absent is not said. */
export interface ModuleFields {
  readonly image?: string
  readonly python?: string
  readonly gpu?: GpuRequest | false
  readonly resources?: { readonly cpus?: number; readonly memoryBytes?: number }
  readonly network?: 'none' | 'egress'
  readonly scale?: { readonly min?: number; readonly max?: number; readonly targetInflight?: number }
  readonly concurrency?: number
  readonly idleTtlMs?: number
  readonly stopTtlMs?: number
  readonly calls?: readonly string[]
  readonly onDisconnect?: 'cancel' | 'drain'
  readonly timeouts?: Partial<ModuleTimeouts>
  readonly queue?: { readonly limit?: number; readonly timeoutMs?: number }
  readonly requirements?: readonly string[]
}

/** Reads keys that the schema has accepted. */
export function readModuleFields(written: WrittenModuleFields): ModuleFields {
  const { gpu, resources, scale, timeouts, queue } = written
  return defined({
    image: written.image,
    python: written.python,
    gpu: gpu === undefined ? undefined : readGpu(gpu),
    resources: resources && defined({ cpus: resources.cpus, memoryBytes: bytes(resources.memory) }),
    network: written.network,
    scale: scale && defined({ min: scale.min, max: scale.max, targetInflight: scale.target_inflight }),
    concurrency: written.concurrency,
    idleTtlMs: milliseconds(written.idle_ttl),
    stopTtlMs: milliseconds(written.stop_ttl),
    calls: written.calls,
    onDisconnect: written.on_disconnect,
    timeouts: timeouts && readTimeouts(timeouts),
    queue: queue && defined({ limit: queue.limit, timeoutMs: milliseconds(queue.timeout) }),
    requirements: written.requirements,
  })
}

function readGpu(gpu: Static<typeof Gpu>): GpuRequest | false {
  if (gpu === false) return false
  if (gpu === 'optional') return { count: 1, optional: true }
  if (gpu === true) return { count: 1, optional: false }
  if (typeof gpu === 'number') return { count: gpu, optional: false }
  return defined({ count: gpu.count ?? 1, memoryBytes: bytes(gpu.memory), optional: gpu.optional ?? false })
}

/** Durations of `timeouts` in milliseconds. */
export function readTimeouts(timeouts: Static<typeof Timeouts>): Partial<ModuleTimeouts> {
  return defined({
    installMs: milliseconds(timeouts.install),
    startMs: milliseconds(timeouts.start),
    loadMs: milliseconds(timeouts.load),
    inferMs: milliseconds(timeouts.infer),
    firstChunkMs: milliseconds(timeouts.first_chunk),
    betweenChunksMs: milliseconds(timeouts.between_chunks),
    callMs: milliseconds(timeouts.call),
    drainMs: milliseconds(timeouts.drain),
  })
}

export function milliseconds(value: string | number | undefined): number | undefined {
  return value === undefined ? undefined : parseDuration(value)
}

export function bytes(value: string | number | undefined): number | undefined {
  return value === undefined ? undefined : parseBytes(value)
}

type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>
}

/** The object without keys whose value is undefined: what is absent stays absent (`exactOptionalPropertyTypes`). */
export function defined<T extends object>(value: T): Defined<T> {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as Defined<T>
}
