import { afterEach, describe, expect, it } from 'vitest'
import { dockerAvailable } from '../support/docker.ts'
import { engines, plainModule } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** What has happened to a module is in the figures of a running orchestrator. */

const module = {
  'service.py': plainModule['service.py']
    .replace('import time', 'import os, time')
    .replace('    for Number in', '    if UserParameters.get("die"):\n        os._exit(3)\n    for Number in'),
}

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

async function start(engine: 'process' | 'docker', settings: string, model = ''): Promise<TestBerth> {
  const config = `models:\n  plain: { module: plain${model} }\nmodule_settings:\n  plain: { ${settings} }\n`
  berth = await startBerth({ engine, modules: { plain: module }, config })
  return berth
}

/** Value of `name{labels}`, labels in the order in which they are printed; undefined where there is no such series. */
async function figure(current: TestBerth, name: string, labels: string): Promise<number | undefined> {
  const text = await (await current.request('GET', '/metrics')).text()
  const line = text.split('\n').find((each) => each.startsWith(`${name}{${labels}} `))
  return line === undefined ? undefined : Number(line.slice(line.lastIndexOf(' ')))
}

describe.each(engines)('on the %s engine', (engine) => {
  it('a cold start shows in all its phases; a warm request adds to none', async () => {
    const current = await start(engine, 'scale: { max: 1 }', ', load_seconds: 0.2')
    const phases = ['environment', 'create', 'boot', 'load', 'first-chunk']
    const counts = () =>
      Promise.all(
        phases.map((phase) => figure(current, 'berth_cold_start_seconds_count', `module="plain",phase="${phase}"`)),
      )
    await current.infer('plain')
    expect(await counts()).toEqual([1, 1, 1, 1, 1])
    expect(await figure(current, 'berth_cold_start_seconds_sum', 'module="plain",phase="load"')).toBeGreaterThan(0.2)
    await current.infer('plain')
    expect(await counts()).toEqual([1, 1, 1, 1, 1])
    expect(await figure(current, 'berth_inference_admitted_total', 'module="plain",model="plain"')).toBe(2)
    expect(await figure(current, 'berth_inference_queue_delay_seconds_count', 'module="plain",model="plain"')).toBe(1)
    expect(await figure(current, 'berth_module_replicas', 'module="plain",state="ready"')).toBe(1)
  })

  it('an idle module: what it was spared and the way back', async () => {
    const current = await start(engine, 'stop_ttl: 2s, scale: { max: 1 }', ', idle_ttl: 500ms')
    await current.infer('plain')
    await current.until('plain', ({ state }) => state === 'idle')
    expect(await figure(current, 'berth_module_idled_total', 'module="plain",what="offload"')).toBe(1)
    await current.infer('plain')
    expect(await figure(current, 'berth_module_way_back_seconds_count', 'module="plain",what="load"')).toBe(1)
    await current.until('plain', ({ replicas }) => replicas.length === 0)
    expect(await figure(current, 'berth_module_idled_total', 'module="plain",what="stop"')).toBe(1)
    await current.infer('plain')
    expect(await figure(current, 'berth_module_way_back_seconds_count', 'module="plain",what="start"')).toBe(1)
  })

  it('a worker that dies counts by its cause', async () => {
    const current = await start(engine, 'scale: { max: 1 }')
    await current.infer('plain', { parameters: { die: true } })
    const labels = 'module="plain",cause="exited"'
    await waitFor(30_000, 'the restart is counted', async () =>
      Boolean(await figure(current, 'berth_module_restarts_total', labels)),
    )
    await waitFor(30_000, 'it answers again', async () => (await current.infer('plain')).at(-1)?.done === true)
  })
})

it('requests that find the queue full are counted as rejected', async () => {
  const current = await start('process', 'scale: { max: 1 }, queue: { limit: 1 }', ', max_simul_users: 1')
  await current.infer('plain')
  const running = current.infer('plain', { parameters: { n: 20, pause: 0.1 } })
  await waitFor(10_000, 'it runs', async () => (await current.models())[0]?.inflight === 1)
  const waiting = current.infer('plain')
  await waitFor(10_000, 'one waits', async () => (await current.models())[0]?.queued === 1)
  expect(await figure(current, 'berth_inference_queued', 'module="plain",model="plain"')).toBe(1)
  expect((await current.infer('plain')).at(-1)?.error?.code).toBe('MODULE_BUSY')
  await Promise.all([running, waiting])
  const rejected = await figure(current, 'berth_inference_rejected_total', 'module="plain",model="plain",reason="full"')
  expect(rejected).toBe(1)
  expect(await figure(current, 'berth_inference_queued', 'module="plain",model="plain"')).toBe(0)
})

it('replicas for the load are counted and told, and so is a scale that is asked for', async () => {
  const current = await start('process', 'scale: { max: 4 }', ', max_simul_users: 1')
  await current.infer('plain')
  const load = Array.from({ length: 6 }, () => current.infer('plain', { parameters: { n: 40, pause: 0.1 } }))
  await waitFor(30_000, 'it is scaled up', async () =>
    Boolean(await figure(current, 'berth_module_scalings_total', 'module="plain",direction="up"')),
  )
  await current.json('PUT', '/api/modules/plain/scale', { replicas: 2 })
  const told = await (await current.request('GET', '/api/events?after=0&follow=false&module=plain')).text()
  expect(told).toContain('"type":"scale","module":"plain","from":"1","to":"2"')
  expect(told).toContain('"type":"scale","module":"plain","from":"default","to":"2..2","cause":"it was asked for"')
  await Promise.all(load)
})

it.skipIf(!dockerAvailable)('what was adopted after a restart, and how long the listing takes', async () => {
  const current = await start('docker', 'scale: { max: 1 }')
  await current.infer('plain')
  await current.kill()
  await current.restart()
  expect(await figure(current, 'berth_module_adoption_seconds_count', 'module="plain"')).toBe(1)
  const text = await (await current.request('GET', '/metrics')).text()
  expect(Number(/^berth_reconcile_duration_seconds_count (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(0)
})
