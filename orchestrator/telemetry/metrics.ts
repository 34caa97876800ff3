import { collectDefaultMetrics, Registry } from 'prom-client'
import type { ModuleView } from '../domain/views.ts'
import { counterFamily, gaugeFamily, histogramFamily } from './metric-families.ts'
import { type LifecycleMetrics, lifecycleFamilies } from './metrics-lifecycle.ts'
import { type GpuUse, type StateSources, stateGauges } from './metrics-state.ts'

/**
 * What Prometheus reads: everything begins with `berth_`. The hot path takes a meter once per route or model and then only
 * adds numbers. Durations are given in milliseconds and shown in seconds.
 */
export interface Metrics extends LifecycleMetrics {
  readonly contentType: string
  /** The text of `GET /metrics`. */
  expose(): Promise<string>
  /** `route` is the pattern (`/api/modules/:id`), never the path. */
  http(route: string, method: string): HttpMeter
  /** The same meter for the same names, until `forget`. */
  inference(module: string, model: string): InferenceMeter
  /** Where the state gauges come from: asked at every scrape. */
  observeModules(source: () => readonly ModuleView[]): void
  /** Where the figures of GPUs come from: asked at every scrape. */
  observeGpus(source: () => readonly GpuUse[]): void
  /** Drops the series of a module that is gone. */
  forget(module: string): void
}

export interface HttpMeter {
  answered(status: number, milliseconds: number): void
}

/** One inference: `queued`, `unqueued` (if it waited), then `started` ... `ended`, or `refused` instead of both. */
export interface InferenceMeter {
  queued(): void
  unqueued(): void
  started(): void
  /** Since the request came in. */
  firstChunk(milliseconds: number): void
  /** `outcome`: `ok`, `cancelled` or an error code. */
  ended(outcome: string, milliseconds: number): void
  refused(outcome: string): void
}

const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300]

export function createMetrics(): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry, prefix: 'berth_' })

  const httpLabels = ['route', 'method', 'status']
  const httpTotal = counterFamily(registry, {
    name: 'berth_http_requests_total',
    help: 'Requests answered',
    labels: httpLabels,
  })
  const httpSeconds = histogramFamily(registry, {
    name: 'berth_http_request_duration_seconds',
    help: 'Time from the request to the end of its answer',
    labels: httpLabels,
    buckets: seconds,
  })

  const model = ['module', 'model']
  const inferences = counterFamily(registry, {
    name: 'berth_inference_total',
    help: 'Inferences ended, by outcome: ok, cancelled or an error code',
    labels: [...model, 'outcome'],
  })
  const inferenceSeconds = histogramFamily(registry, {
    name: 'berth_inference_duration_seconds',
    help: 'Time from the request to the last chunk',
    labels: model,
    buckets: seconds,
  })
  const firstChunkSeconds = histogramFamily(registry, {
    name: 'berth_inference_first_chunk_seconds',
    help: 'Time from the request to the first chunk',
    labels: model,
    buckets: seconds,
  })
  const inflight = gaugeFamily(registry, {
    name: 'berth_inference_inflight',
    help: 'Inferences running',
    labels: model,
  })
  const queued = gaugeFamily(registry, { name: 'berth_inference_queued', help: 'Inferences waiting', labels: model })

  const admissions = counterFamily(registry, {
    name: 'berth_inference_admitted_total',
    help: 'Inferences that a replica was given for, at once or after waiting',
    labels: model,
  })
  const lifecycle = lifecycleFamilies(registry)
  const sources: StateSources = { modules: () => [], gpus: () => [] }
  stateGauges(registry, sources)

  const meters = new Map<string, Map<string, InferenceMeter>>()
  const createInferenceMeter = (module: string, name: string): InferenceMeter => {
    const running = inflight.child(module, name)
    const admitted = admissions.child(module, name)
    const waiting = queued.child(module, name)
    const duration = inferenceSeconds.child(module, name)
    const firstChunk = firstChunkSeconds.child(module, name)
    const ok = inferences.child(module, name, 'ok')
    const count = (outcome: string): void => {
      if (outcome === 'ok') ok.value += 1
      else inferences.child(module, name, outcome).value += 1
    }
    return {
      queued() {
        waiting.value += 1
      },
      unqueued() {
        waiting.value -= 1
      },
      started() {
        running.value += 1
        admitted.value += 1
      },
      firstChunk(milliseconds) {
        firstChunk.observe(milliseconds / 1000)
      },
      ended(outcome, milliseconds) {
        running.value -= 1
        duration.observe(milliseconds / 1000)
        count(outcome)
      },
      refused: count,
    }
  }

  return {
    ...lifecycle.record,
    contentType: registry.contentType,
    expose: () => registry.metrics(),
    http(route, method) {
      const known = new Map<number, { total: { value: number }; duration: { observe(value: number): void } }>()
      return {
        answered(status, milliseconds) {
          let child = known.get(status)
          if (child === undefined) {
            const labels = [route, method, String(status)]
            child = { total: httpTotal.child(...labels), duration: httpSeconds.child(...labels) }
            known.set(status, child)
          }
          child.total.value += 1
          child.duration.observe(milliseconds / 1000)
        },
      }
    },
    inference(module, name) {
      const ofModule = meters.get(module) ?? new Map<string, InferenceMeter>()
      if (ofModule.size === 0) meters.set(module, ofModule)
      let meter = ofModule.get(name)
      if (meter === undefined) {
        meter = createInferenceMeter(module, name)
        if (ofModule.size < 1_000) ofModule.set(name, meter)
      }
      return meter
    },
    observeModules(source) {
      sources.modules = source
    },
    observeGpus(source) {
      sources.gpus = source
    },
    forget(module) {
      meters.delete(module)
      for (const family of [inferences, inferenceSeconds, firstChunkSeconds, inflight, queued, admissions])
        family.forget(module)
      lifecycle.forget(module)
    },
  }
}
