import { describe, expect, it } from 'vitest'
import { watchInferences } from '../../../orchestrator/inference/watch.ts'
import { createMetrics } from '../../../orchestrator/telemetry/metrics.ts'

const labels = 'module="ocr",model="lines"'

describe('inferences in the metrics', () => {
  it('one that waited in the queue is counted there until it is served', async () => {
    const metrics = createMetrics()
    const watched = watchInferences(metrics)('ocr', 'lines')
    watched.queued()
    watched.queued()
    expect(await metrics.expose()).toContain(`berth_inference_queued{${labels}} 1`)
    watched.started()
    expect(await metrics.expose()).toContain(`berth_inference_queued{${labels}} 0`)
    expect(await metrics.expose()).toContain(`berth_inference_inflight{${labels}} 1`)
    watched.ended('ok', 20)
    const text = await metrics.expose()
    expect(text).toContain(`berth_inference_inflight{${labels}} 0`)
    expect(text).toContain(`berth_inference_admitted_total{${labels}} 1`)
  })

  it('the first chunk after a cold start is a phase of it, one of a warm replica is none', async () => {
    const metrics = createMetrics()
    const watch = watchInferences(metrics)
    watch('ocr', 'lines').firstChunk(3, undefined)
    expect(await metrics.expose()).not.toContain('berth_cold_start_seconds_count{')
    watch('ocr', 'lines').firstChunk(2_500, 400)
    const text = await metrics.expose()
    expect(text).toContain('berth_cold_start_seconds_sum{module="ocr",phase="first-chunk"} 0.4')
    expect(text).toContain(`berth_inference_first_chunk_seconds_count{${labels}} 2`)
  })
})
