import type { Metrics } from '../telemetry/metrics.ts'
import type { WatchInference } from './types.ts'

/** Counts and times inferences in the metrics: the meter is looked up once per inference, then numbers are added. */
export function watchInferences(metrics: Metrics): WatchInference {
  return (module, model) => {
    const meter = metrics.inference(module, model)
    let waits = false
    let runs = false
    const unqueue = () => {
      if (waits) meter.unqueued()
      waits = false
    }
    return {
      queued() {
        if (!waits) meter.queued()
        waits = true
      },
      started() {
        unqueue()
        runs = true
        meter.started()
      },
      firstChunk(ms, coldMs) {
        meter.firstChunk(ms)
        if (coldMs !== undefined) metrics.coldStart(module, 'first-chunk', coldMs)
      },
      ended(outcome, ms) {
        unqueue()
        if (runs) meter.ended(outcome, ms)
        else meter.refused(outcome)
      },
    }
  }
}
