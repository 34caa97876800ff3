import { performance } from 'node:perf_hooks'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { Lease, LeaseOutcome } from '../lifecycle/lease.ts'
import type { Ending, InferCall } from '../runner/client.ts'
import { isStranger } from '../runner/errors.ts'
import type {
  InferenceRequest,
  InferenceSink,
  InferenceTimings,
  ModelRoute,
  RouteModels,
  WatchInference,
} from './types.ts'

/**
 * The way of one inference: find the model, wait for a lease, start it on the runner, hand its bytes to the sink. Lease
 * and runner call are given back in one place (`#close`), whichever side ends first.
 */
export interface Dispatcher {
  /** Begins at once and answers the handle to cancel it. What happens is told to the sink; nothing is thrown. */
  dispatch(request: InferenceRequest, sink: InferenceSink): Inference
}

export interface DispatcherOptions {
  readonly route: RouteModels
  readonly watch: WatchInference
  /** Told of bytes that have been handed on. */
  readonly relayed?: (bytes: number) => void
}

export function createDispatcher({ route, watch, relayed = () => {} }: DispatcherOptions): Dispatcher {
  return {
    dispatch(request, sink) {
      const inference = new Inference(request, sink, watch, relayed)
      inference.run(route)
      return inference
    },
  }
}

/** How many replicas a request is handed to, all but the last of which never took it up: many may leave at once. */
const mostAttempts = 10
/** A longer timer would fire at once. */
const longestTimerMs = 2_147_483_647

export class Inference {
  readonly #request: InferenceRequest
  readonly #sink: InferenceSink
  readonly #watch: WatchInference
  readonly #relayed: (bytes: number) => void
  readonly #began = performance.now()
  /** Ends the wait for a lease; there is none where a lease is granted at once. */
  #waiting: AbortController | undefined
  #route: ModelRoute | undefined
  #lease: Lease | undefined
  #attempts = 0
  #call: InferCall | undefined
  #observer: ReturnType<WatchInference> | undefined
  #timer: NodeJS.Timeout | undefined
  #timings: InferenceTimings | undefined
  /** Since then only other requests have kept it waiting; 0: they have not. */
  #queuedAt = 0
  #grantedAt = 0
  #ended = false
  #abandoned = false

  constructor(request: InferenceRequest, sink: InferenceSink, watch: WatchInference, relayed: (bytes: number) => void) {
    this.#request = request
    this.#sink = sink
    this.#watch = watch
    this.#relayed = relayed
  }

  /** The client has gone: queued, cold start and load are given up; a stream is cancelled, or drained where its module says so. */
  cancel(): void {
    if (this.#ended) return
    if (this.#call && this.#lease?.definition.manifest.onDisconnect === 'drain') {
      this.#abandoned = true
      this.#call.resume()
      return
    }
    this.#call?.cancel()
    this.#close('cancelled')
    this.#waiting?.abort(new BerthError('CLIENT_CLOSED', 'The caller went away.'))
  }

  /** Goes on after the sink's `data` answered false. */
  resume(): void {
    this.#call?.resume()
  }

  run(route: RouteModels): void {
    let found: ModelRoute
    try {
      found = route(this.#request)
    } catch (error) {
      this.#fail(toBerthError(error))
      return
    }
    this.#route = found
    this.#observer = this.#watch(found.module, found.model)
    try {
      const lease = found.acquireNow()
      if (lease) this.#start(found, lease)
      else this.#wait(found)
    } catch (error) {
      this.#fail(toBerthError(error))
    }
  }

  #wait(found: ModelRoute): void {
    const { caller, priority } = this.#request
    this.#waiting = new AbortController()
    const { signal } = this.#waiting
    found
      .acquire({ caller, priority, signal, onPosition: (position) => this.#queued(position) })
      .then((lease) => this.#start(found, lease))
      .catch((error: unknown) => this.#fail(toBerthError(error)))
  }

  #queued(position: number): void {
    this.#observer?.queued()
    this.#queuedAt ||= performance.now()
    if (!this.#ended) this.#sink.queued(position)
  }

  #start(found: ModelRoute, lease: Lease): void {
    if (this.#ended) {
      lease.release()
      return
    }
    this.#lease = lease
    this.#attempts += 1
    this.#grantedAt = performance.now()
    const { manifest } = lease.definition
    const { firstChunkMs, betweenChunksMs, inferMs } = manifest.timeouts
    if (Number.isFinite(inferMs)) {
      this.#timer = setTimeout(() => this.#expire(manifest.id, inferMs), Math.min(inferMs, longestTimerMs))
    }
    if (this.#attempts === 1) this.#observer?.started()
    this.#call = lease.client.infer(
      inferBody(found.model, this.#request),
      this.#request.requestId,
      { firstChunkMs, betweenChunksMs },
      {
        onData: (bytes) => this.#data(bytes),
        onEnd: (ending) => this.#end(ending),
        onError: (error) => this.#fail(error),
      },
    )
  }

  #data(bytes: Buffer): boolean {
    if (this.#ended || this.#abandoned) return true
    if (!this.#timings) {
      const now = performance.now()
      this.#timings = { ...this.#waited(now), firstMs: now - this.#grantedAt }
      const { startMs = 0, loadMs = 0 } = this.#timings
      this.#observer?.firstChunk(now - this.#began, startMs + loadMs > 0 ? now - this.#grantedAt : undefined)
      this.#sink.begin(this.#timings)
    }
    this.#relayed(bytes.length)
    return this.#sink.data(bytes)
  }

  #end(ending: Ending): void {
    if (this.#ended) return
    const failed = ending.kind === 'error'
    this.#close(failed ? (ending.code ?? 'INFERENCE_FAILED') : 'ok', failed ? lossBy(ending.code) : undefined)
    if (!this.#abandoned) this.#sink.end()
  }

  #fail(error: BerthError): void {
    if (this.#ended) return
    if (this.#route && this.#lease && !this.#abandoned && this.#attempts < mostAttempts && wasNotBegun(error)) {
      this.#again(this.#route, this.#lease, error)
      return
    }
    this.#close(error.code === 'CLIENT_CLOSED' ? 'cancelled' : error.code, lossOf(error))
    if (!this.#abandoned) this.#sink.fail(error, this.#timings ?? this.#waited(performance.now()))
  }

  /** The replica is about to go, or is gone, and nothing of the request has reached it: another one serves it. */
  #again(route: ModelRoute, lease: Lease, error: BerthError): void {
    clearTimeout(this.#timer)
    this.#lease = undefined
    this.#call = undefined
    lease.release(lossOf(error))
    this.#wait(route)
  }

  #expire(module: string, inferMs: number): void {
    this.#call?.cancel()
    this.#fail(
      new BerthError(
        'INFERENCE_TIMEOUT',
        `Module ${module} did not finish within ${inferMs / 1000} s (timeouts.infer).`,
        { module },
      ),
    )
  }

  /** What came before the first bytes. */
  #waited(now: number): InferenceTimings {
    if (this.#lease === undefined) {
      const queueMs = this.#queuedAt === 0 ? 0 : now - this.#queuedAt
      return { queueMs, startMs: now - this.#began - queueMs }
    }
    const { startMs, loadMs } = this.#lease.waited
    return { queueMs: Math.max(0, this.#grantedAt - this.#began - startMs - loadMs), startMs, loadMs }
  }

  #close(outcome: string, lease?: LeaseOutcome): void {
    this.#ended = true
    clearTimeout(this.#timer)
    this.#lease?.release(lease)
    this.#observer?.ended(outcome, performance.now() - this.#began)
  }
}

/** Certain that the module's code has seen nothing of the request: a request that ends its replica must not end the next one too. */
function wasNotBegun(error: BerthError): boolean {
  if (error.code === 'SHUTTING_DOWN') return error.origin === 'module'
  if (isStranger(error)) return true
  return error.code === 'RUNNER_UNREACHABLE' && error.details.connected === false
}

/** After these, and when memory ran out, the worker may be gone, with all that it had loaded. */
function losesWorker(code: string | undefined): boolean {
  return (
    code === 'WORKLOAD_EXITED' ||
    code === 'RUNNER_UNREACHABLE' ||
    code === 'SHUTTING_DOWN' ||
    code === 'STREAM_INTERRUPTED' ||
    code === 'MODEL_NOT_FOUND'
  )
}

/** What an error says of the replica that the lease was on. */
function lossOf(error: BerthError): LeaseOutcome | undefined {
  if (isStranger(error)) return 'stranger'
  // A module may tell of a timeout too, of another model that it has called: that one is slow, it itself is not.
  if (error.code === 'INFERENCE_TIMEOUT' && error.origin === 'orchestrator') return 'hung'
  return lossBy(error.code)
}

function lossBy(code: string | undefined): LeaseOutcome | undefined {
  if (code === 'OUT_OF_MEMORY') return 'out-of-memory'
  return losesWorker(code) ? 'lost' : undefined
}

/** An InferRequest as JSON. The request's own conversation and key_info win over keys of that name in `parameters`. */
function inferBody(model: string, request: InferenceRequest): string {
  const parameters: JsonObject = {
    ...request.parameters,
    ...(request.conversation === undefined ? {} : { conversation: request.conversation }),
    key_info: request.keyInfo,
  }
  return JSON.stringify({ model, config: request.config, parameters })
}
