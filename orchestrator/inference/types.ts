import type { BerthError } from '../domain/errors.ts'
import type { Json, JsonObject } from '../domain/json.ts'
import type { Priority } from '../domain/priority.ts'
import type { Lease, WaitOptions } from '../lifecycle/lease.ts'

export interface InferenceRequest {
  /** Set where the caller names the module itself: its models include those that an explicit load named. */
  readonly module?: string
  readonly model: string
  /** SERVICE_INFERENCE's UserConfig. */
  readonly config: JsonObject
  /** SERVICE_INFERENCE's UserParameters, before conversation and key_info are put in. */
  readonly parameters: JsonObject
  readonly conversation?: readonly Json[]
  /** Who asks, as modules are told: never a secret. */
  readonly keyInfo: JsonObject
  /** `key:<name>`, `address:<client's address>` or `module:<id>`: whom the queue is fair to. */
  readonly caller: string
  readonly priority: Priority
  readonly requestId: string
}

/** Where the answer goes. Calls come in this order: queued*, begin, data*, then end or fail, once. */
export interface InferenceSink {
  /** Other requests keep it waiting; 1 is next. */
  queued(position: number): void
  /** The first bytes are there. */
  begin(timings: InferenceTimings): void
  /** NDJSON as it came from the runner, lines cut anywhere. False: no more until `resume`. */
  data(bytes: Buffer): boolean
  /** The terminal frame has been among the data. */
  end(): void
  /** No terminal frame has been sent; after `begin` or `queued` this one has to be it. Its timings are those so far. */
  fail(error: BerthError, timings?: InferenceTimings): void
}

/** Milliseconds. */
export interface InferenceTimings {
  readonly queueMs: number
  /** Of an inference that failed before it ran: the load too, which the failure does not tell from the start. */
  readonly startMs: number
  /** Absent where it failed before it ran. */
  readonly loadMs?: number
  /** From the lease to the first bytes; absent where none came. */
  readonly firstMs?: number
}

/** Where a request goes: throws MODEL_NOT_FOUND, MODULE_NOT_FOUND, MODULE_DISABLED or SHUTTING_DOWN. */
export type RouteModels = (request: { readonly module?: string; readonly model: string }) => ModelRoute

export interface ModelRoute {
  readonly module: string
  /** The model's own name, where the request named an alias. */
  readonly model: string
  /** A lease without waiting, or undefined: then `acquire` is to be asked. */
  acquireNow(): Lease | undefined
  acquire(options: Omit<WaitOptions, 'model' | 'maxInflight'>): Promise<Lease>
}

/** Counts and times one inference. */
export type WatchInference = (
  module: string,
  model: string,
) => {
  queued(): void
  started(): void
  /** Milliseconds since the request; `coldMs` since its lease, of one that waited for a start or a load. */
  firstChunk(ms: number, coldMs: number | undefined): void
  /** `ok`, `cancelled` or the code of the error. */
  ended(outcome: string, ms: number): void
}
