import Type, { type Static } from 'typebox'
import { protocolVersion, type runnerStates } from './constants.ts'

/**
 * Runner protocol 1: what the orchestrator and a module container say to each other (docs/runner-protocol.md).
 * This file is the contract's only home: both sides import it and nothing else of each other.
 */
export * from './constants.ts'

const Json = Type.Unknown()
const JsonObject = Type.Record(Type.String(), Json)
const Names = Type.Array(Type.String())

/** The inside of an error, in bodies and in stream frames alike. */
export const WireError = Type.Object({
  code: Type.String(),
  message: Type.String(),
  retryable: Type.Optional(Type.Boolean()),
  origin: Type.Optional(Type.String()),
  details: Type.Optional(JsonObject),
})
export type WireError = Static<typeof WireError>

export const ErrorAnswer = Type.Object({ error: WireError })
export type ErrorAnswer = Static<typeof ErrorAnswer>

export type RunnerState = (typeof runnerStates)[number]

/** Memory of the module's GPUs as last measured, by their number inside, from 0. Bytes. */
export const GpuMemoryAnswer = Type.Object({
  /** How old the measurement is. */
  ageMs: Type.Number({ minimum: 0 }),
  devices: Type.Record(
    Type.String(),
    Type.Object({
      /** In use on the device, by whomever. */
      used: Type.Number({ minimum: 0 }),
      /** Of that, this container's; absent where the driver does not tell. */
      own: Type.Optional(Type.Number({ minimum: 0 })),
    }),
  ),
})
export type GpuMemoryAnswer = Static<typeof GpuMemoryAnswer>

/** GET /health. `error` says why the state is `failed`: the module can't be imported, the worker died and so on. */
export const HealthAnswer = Type.Object({
  protocol: Type.Literal(protocolVersion),
  state: Type.Union([Type.Literal('starting'), Type.Literal('idle'), Type.Literal('ready'), Type.Literal('failed')]),
  models: Names,
  inflight: Type.Integer({ minimum: 0 }),
  error: Type.Optional(WireError),
  /** Counts the workers that had to be started after the first: a change means that its models are gone. */
  workerRestarts: Type.Optional(Type.Integer({ minimum: 0 })),
  /** Absent where there is no GPU or no tool to measure with. */
  gpuMemory: Type.Optional(GpuMemoryAnswer),
})
export type HealthAnswer = Static<typeof HealthAnswer>

/** POST /load */
export const LoadRequest = Type.Object({ models: Type.Record(Type.String(), JsonObject) })
export type LoadRequest = Static<typeof LoadRequest>
export const LoadAnswer = Type.Object({ loaded: Names })
export type LoadAnswer = Static<typeof LoadAnswer>

/** POST /offload */
export const OffloadRequest = Type.Object({ models: Names })
export type OffloadRequest = Static<typeof OffloadRequest>
export const OffloadAnswer = Type.Object({ offloaded: Names })
export type OffloadAnswer = Static<typeof OffloadAnswer>

/** POST /infer: answers a stream of frames, `application/x-ndjson`, one a line. */
export const InferRequest = Type.Object({ model: Type.String(), config: JsonObject, parameters: JsonObject })
export type InferRequest = Static<typeof InferRequest>

/** POST /call */
export const CallRequest = Type.Object({
  path: Type.Array(Type.String(), { minItems: 1 }),
  args: Type.Array(Json),
  kwargs: Type.Optional(JsonObject),
})
export type CallRequest = Static<typeof CallRequest>

/** One line of a stream. Exactly one terminal frame (`done` or `error`) ends it. */
export interface ChunkFrame {
  readonly chunk: {
    readonly response: {
      readonly text?: string
      readonly files?: readonly unknown[]
      readonly extra?: Record<string, unknown>
    }
    readonly warnings: readonly unknown[]
    readonly errors: readonly unknown[]
  }
}
export interface DoneFrame {
  readonly done: true
  readonly conversation?: readonly unknown[]
}
export type StreamFrame = ChunkFrame | DoneFrame | { readonly error: WireError }

/**
 * Module-to-module calls. The orchestrator opens `GET /calls` (NDJSON, stays open) and reads one OutgoingCall a line;
 * an empty line every few seconds keeps the connection known to be alive. It posts the result to `POST /calls/:id` as
 * an NDJSON stream of CallResult lines, the last of which has `done` or `error`. A result for a call that its caller
 * gave up is answered 410. When the channel breaks, calls under way fail with a clear error in the module.
 */
export const OutgoingCall = Type.Object({
  id: Type.String(),
  /** What services_manager was asked for. */
  kind: Type.Union([
    Type.Literal('infer'),
    Type.Literal('load'),
    Type.Literal('offload'),
    Type.Literal('configuration'),
    Type.Literal('installed'),
    /** The caller no longer reads call `id`: cancel it. No result is expected. */
    Type.Literal('cancel'),
  ]),
  /** infer, configuration: the model. */
  model: Type.Optional(Type.String()),
  /** load, offload: the models; installed: one service's name. */
  names: Type.Optional(Names),
  /** infer: what InferenceModel got as Prompt and UserParameters. */
  prompt: Type.Optional(Json),
  parameters: Type.Optional(JsonObject),
})
export type OutgoingCall = Static<typeof OutgoingCall>
/** infer: any number of `chunk`, then `done`; the others: one `{"value":...,"done":true}`. */
export type CallResult =
  | ChunkFrame
  | { readonly done: true; readonly value?: unknown; readonly conversation?: readonly unknown[] }
  | { readonly error: WireError }

/** A line of the runner's standard output: how logs of module, runner and installer leave the container. */
export const LogOutput = Type.Object({
  time: Type.String(),
  level: Type.Union([
    Type.Literal('debug'),
    Type.Literal('info'),
    Type.Literal('warning'),
    Type.Literal('error'),
    Type.Literal('critical'),
  ]),
  source: Type.Union([Type.Literal('module'), Type.Literal('runner'), Type.Literal('installer')]),
  message: Type.String(),
})
export type LogOutput = Static<typeof LogOutput>

/** What Berth's own runner needs to know about its module (BERTH_MODULE). */
export const RunnerConfiguration = Type.Object({
  id: Type.String(),
  format: Type.Union([Type.Literal('service'), Type.Literal('block'), Type.Literal('reactory')]),
  /** File to import, relative to `paths.module`. */
  entry: Type.String(),
  /** Every configured model of this module, as written: becomes ServerConfiguration["services"]. */
  models: Type.Record(Type.String(), JsonObject),
  /** The user's configuration, merged over the module's default file by the worker. */
  configuration: Type.Optional(JsonObject),
  /** Inferences at once of a model whose own configuration has no `max_simul_users`; 1 when absent. */
  concurrency: Type.Optional(Type.Integer({ minimum: 1 })),
  /** `drain`: a client that leaves does not end its inference. */
  onDisconnect: Type.Union([Type.Literal('cancel'), Type.Literal('drain')]),
  /** Models that `services_manager` may call: checked by the orchestrator, told here for a clear PermissionError. */
  calls: Names,
  /** Grace on SIGTERM for inferences in flight, milliseconds. */
  drainMs: Type.Number(),
  /** Limit of one offload call at shutdown, milliseconds. */
  callMs: Type.Number(),
  paths: Type.Object({
    /** The module's files. */
    module: Type.String(),
    /** Folder of the installed environment, absent when the module needs none. */
    environment: Type.Optional(Type.String()),
    /** Writable and lasting: the working directory is made in here. */
    data: Type.String(),
    /** Writable and shared between modules: downloaded models. */
    cache: Type.String(),
    /** Interpreter to use when there is no environment. */
    python: Type.Optional(Type.String()),
  }),
})
export type RunnerConfiguration = Static<typeof RunnerConfiguration>

/**
 * The environment installer (module-runner/server/install.ts) is a program of its own: it reads one InstallOrder as
 * JSON from the variable BERTH_INSTALL, writes LogOutput and InstallProgress lines to standard output, and exits 0
 * once the environment is complete, 1 with a last line InstallFailure otherwise.
 */
export const InstallOrder = Type.Object({
  key: Type.String(),
  /** Folder to fill; `<folder>/environment.json` is its marker, written last and atomically. */
  folder: Type.String(),
  /** The module's files: the working directory of the installer. */
  module: Type.String(),
  file: Type.Optional(Type.String()),
  extra: Type.Array(Type.String()),
  /** Such as `3.12`; the first Python 3 on the path when absent. */
  python: Type.Optional(Type.String()),
  gpu: Type.Union([Type.Literal('NVIDIA'), Type.Literal('AMD'), Type.Literal('INTEL'), Type.Literal('NO_GPU')]),
  /** Shared download cache. */
  cache: Type.String(),
  /** The base's own Python packages are visible in the environment: for base images that bring PyTorch and the like. */
  basePackages: Type.Optional(Type.Boolean()),
})
export type InstallOrder = Static<typeof InstallOrder>

/** A step of the installer, for progress bars. */
export interface InstallProgress {
  readonly progress: { readonly message: string; readonly current?: number; readonly total?: number }
}

export interface InstallFailure {
  readonly failure: { readonly message: string; readonly lines: readonly string[] }
}

/** The marker of a complete environment. */
export const EnvironmentMarker = Type.Object({
  key: Type.String(),
  /** `3.13.1` */
  pythonVersion: Type.String(),
  installer: Type.Union([Type.Literal('uv'), Type.Literal('pip'), Type.Literal('none')]),
  /** Interpreter of the environment, relative to its folder. */
  python: Type.String(),
  createdAt: Type.String(),
  bytes: Type.Number(),
})
export type EnvironmentMarker = Static<typeof EnvironmentMarker>
