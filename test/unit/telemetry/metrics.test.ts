import { describe, expect, it } from 'vitest'
import type { ModuleView, ReplicaView } from '../../../orchestrator/domain/views.ts'
import { createMetrics } from '../../../orchestrator/telemetry/metrics.ts'

const replica = (state: ReplicaView['state']): ReplicaView => ({
  id: 'r',
  generation: 1,
  state,
  gpus: [],
  models: [],
  inflight: 0,
  restarts: 0,
})

const module: ModuleView = {
  id: 'ocr',
  format: 'service',
  desired: 'enabled',
  state: 'ready',
  source: '/modules/ocr',
  replicas: [replica('ready'), replica('ready'), replica('failed')],
  models: [],
  security: { score: 100, findings: [] },
}

describe('metrics', () => {
  it('count an inference from queue to end', async () => {
    const metrics = createMetrics()
    const meter = metrics.inference('ocr', 'lines')
    expect(metrics.inference('ocr', 'lines')).toBe(meter)
    meter.queued()
    meter.queued()
    meter.unqueued()
    meter.started()
    meter.started()
    meter.firstChunk(4)
    meter.ended('ok', 20)
    meter.refused('MODULE_BUSY')
    const text = await metrics.expose()
    const labels = 'module="ocr",model="lines"'
    for (const line of [
      `berth_inference_queued{${labels}} 1`,
      `berth_inference_inflight{${labels}} 1`,
      `berth_inference_total{${labels},outcome="ok"} 1`,
      `berth_inference_total{${labels},outcome="MODULE_BUSY"} 1`,
      `berth_inference_first_chunk_seconds_bucket{${labels},le="0.0025"} 0`,
      `berth_inference_first_chunk_seconds_bucket{${labels},le="0.005"} 1`,
      `berth_inference_duration_seconds_bucket{${labels},le="+Inf"} 1`,
      `berth_inference_duration_seconds_sum{${labels}} 0.02`,
      `berth_inference_duration_seconds_count{${labels}} 1`,
    ]) {
      expect(text.split('\n')).toContain(line)
    }
  })

  it('show the state of modules as it is when somebody looks', async () => {
    const metrics = createMetrics()
    let modules = [module]
    metrics.observeModules(() => modules)
    const text = await metrics.expose()
    expect(text).toContain('berth_module_state{module="ocr",state="ready"} 1')
    expect(text).toContain('berth_module_state{module="ocr",state="idle"} 0')
    expect(text).toContain('berth_module_replicas{module="ocr",state="ready"} 2')
    expect(text).toContain('berth_module_replicas{module="ocr",state="failed"} 1')
    modules = []
    expect(await metrics.expose()).not.toContain('module="ocr"')
  })

  it('count what waited, what was refused and what came of it', async () => {
    const metrics = createMetrics()
    metrics.inference('ocr', 'lines').started()
    metrics.waited('ocr', 'lines', 120)
    metrics.rejected('ocr', 'lines', 'full')
    metrics.rejected('ocr', 'lines', 'full')
    metrics.rejected('ocr', 'lines', 'timeout')
    const lines = (await metrics.expose()).split('\n')
    for (const line of [
      'berth_inference_admitted_total{module="ocr",model="lines"} 1',
      'berth_inference_queue_delay_seconds_bucket{module="ocr",model="lines",le="0.1"} 0',
      'berth_inference_queue_delay_seconds_bucket{module="ocr",model="lines",le="0.25"} 1',
      'berth_inference_rejected_total{module="ocr",model="lines",reason="full"} 2',
      'berth_inference_rejected_total{module="ocr",model="lines",reason="timeout"} 1',
    ]) {
      expect(lines).toContain(line)
    }
  })

  it('time the phases of a cold start, the way back of idle modules, adoption and reconcile', async () => {
    const metrics = createMetrics()
    metrics.coldStart('ocr', 'boot', 300)
    metrics.coldStart('ocr', 'first-chunk', 12_000)
    metrics.idled('ocr', 'stop')
    metrics.wayBack('ocr', 'start', 900)
    metrics.adopted('ocr', 40)
    metrics.scaled('ocr', 'up')
    metrics.reconciled(4)
    const lines = (await metrics.expose()).split('\n')
    for (const line of [
      'berth_cold_start_seconds_sum{module="ocr",phase="boot"} 0.3',
      'berth_cold_start_seconds_bucket{module="ocr",phase="first-chunk",le="10"} 0',
      'berth_cold_start_seconds_bucket{module="ocr",phase="first-chunk",le="30"} 1',
      'berth_module_idled_total{module="ocr",what="stop"} 1',
      'berth_module_way_back_seconds_sum{module="ocr",what="start"} 0.9',
      'berth_module_adoption_seconds_count{module="ocr"} 1',
      'berth_module_scalings_total{module="ocr",direction="up"} 1',
      'berth_reconcile_duration_seconds_bucket{le="0.005"} 1',
      'berth_reconcile_duration_seconds_count 1',
    ]) {
      expect(lines).toContain(line)
    }
    metrics.forget('ocr')
    expect(await metrics.expose()).not.toContain('"ocr"')
  })

  it('sum the GPU memory of a module on a device, as it is when somebody looks', async () => {
    const metrics = createMetrics()
    let uses = [
      { id: 'gpu0', holder: 'ocr', bytes: 1_000 },
      { id: 'gpu0', holder: 'ocr', bytes: 500 },
      { id: 'gpu0', holder: 'other', bytes: 7 },
    ]
    metrics.observeGpus(() => uses)
    const text = await metrics.expose()
    expect(text).toContain('berth_gpu_memory_bytes{gpu="gpu0",module="ocr"} 1500')
    expect(text).toContain('berth_gpu_memory_bytes{gpu="gpu0",module="other"} 7')
    uses = []
    expect(await metrics.expose()).not.toContain('berth_gpu_memory_bytes{')
  })

  it('count installs and restarts', async () => {
    const metrics = createMetrics()
    metrics.environmentInstalled('ocr', 'ok', 12_000)
    metrics.environmentInstalled('ocr', 'failed', 500)
    metrics.restarted('ocr', 'out-of-memory')
    const text = await metrics.expose()
    expect(text).toContain('berth_environment_installs_total{module="ocr",outcome="ok"} 1')
    expect(text).toContain('berth_environment_installs_total{module="ocr",outcome="failed"} 1')
    expect(text).toContain('berth_environment_install_duration_seconds_count{module="ocr"} 2')
    expect(text).toContain('berth_module_restarts_total{module="ocr",cause="out-of-memory"} 1')
  })

  it('forget a module that is gone, and no other', async () => {
    const metrics = createMetrics()
    for (const name of ['ocr', 'other']) {
      metrics.inference(name, 'm').refused('ok')
      metrics.restarted(name, 'exited')
      metrics.environmentInstalled(name, 'ok', 1)
    }
    metrics.forget('ocr')
    const text = await metrics.expose()
    expect(text).not.toContain('"ocr"')
    expect(text).toContain('berth_inference_total{module="other",model="m",outcome="ok"} 1')
    metrics.inference('ocr', 'm').refused('ok')
    expect(await metrics.expose()).toContain('module="ocr",model="m",outcome="ok"} 1')
  })

  it('stay bounded whatever names come', async () => {
    const metrics = createMetrics()
    for (let count = 0; count < 5_000; count += 1) metrics.inference('ocr', `model-${count}`).refused('LOAD_FAILED')
    const lines = (await metrics.expose()).split('\n').filter((line) => line.startsWith('berth_inference_total'))
    expect(lines.length).toBeLessThanOrEqual(2_001)
    expect(lines.some((line) => line.includes('module="other",model="other",outcome="other"'))).toBe(true)
  })

  it('escape what a label may not hold', async () => {
    const metrics = createMetrics()
    metrics.restarted('a"b\\c\nd', 'exited')
    expect(await metrics.expose()).toContain('module="a\\"b\\\\c\\nd"')
  })

  it('all begin with berth_', async () => {
    for (const line of (await createMetrics().expose()).split('\n')) {
      expect(line).toMatch(/^(|# (HELP|TYPE) berth_.*|berth_.*)$/)
    }
  })
})
