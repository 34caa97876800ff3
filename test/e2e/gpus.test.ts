import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { BerthEvent, GpuView } from '../../orchestrator/domain/views.ts'
import { labels } from '../../orchestrator/engines/labels.ts'
import { notHere } from '../support/docker.ts'
import { engines, plainModule } from '../support/engines.ts'
import { fakeNvidiaSmi } from '../support/fake-nvidia-smi.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/**
 * GPUs on a real Docker Engine: two simulated CDI devices, whose size a fake `nvidia-smi` tells. What matters is seen from
 * outside: which container has which device, who is stopped for whom, and that every request has an answer.
 */
const folder = mkdtempSync(join(tmpdir(), 'berth-smi-'))
const smi = fakeNvidiaSmi(folder, [
  { uuid: 'GPU-a', total: 24 * 1024 },
  { uuid: 'GPU-b', total: 24 * 1024 },
])
let berth: TestBerth | undefined

afterAll(() => rmSync(folder, { recursive: true, force: true }))
afterEach(async () => {
  await berth?.close()
  berth = undefined
})

const patience = 'queue: { timeout: 5m }\ntimeouts: { drain: 5s, call: 5s }\n'

function module(id: string, gpu: string, more = patience) {
  return { [id]: { ...plainModule, 'module.yaml': `models: [${id}]\ngpu: ${gpu}\n${more}` } }
}

/** Running containers of the instance with the devices in their labels. */
function containers(instance: string): { module: string; gpus: string[] }[] {
  const filter = ['--filter', `label=${labels.instance}=${instance}`, '--filter', `label=${labels.role}=workload`]
  const format = `{{.Label "${labels.module}"}} {{.Label "${labels.gpus}"}}`
  const listed = execFileSync('docker', ['ps', ...filter, '--format', format], { encoding: 'utf8' })
  return listed
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => {
      const [name = '', gpus = ''] = line.split(' ')
      return { module: name, gpus: gpus === '' ? [] : gpus.split(',') }
    })
}

describe.runIf(engines.includes('docker'))('two GPUs and five modules', () => {
  it('serve 200 mixed requests: nobody is given what another has alone, and nobody in use is sent away', async (context) => {
    berth = await startBerth({
      engine: 'docker',
      env: { PATH: smi.path },
      modules: {
        ...module('alone-a', '{ count: 1 }'),
        ...module('alone-b', '{ count: 1 }'),
        ...module('both', '{ count: 2 }'),
        ...module('share-a', '{ count: 1, memory: 16GiB }'),
        ...module('share-b', '{ count: 1, memory: 16GiB }'),
      },
    })
    const { url } = berth
    if ((await gpusOf(url)).length !== 2) notHere(context, 'two GPUs, if only simulated ones')
    const names = ['alone-a', 'alone-b', 'both', 'share-a', 'share-b']
    const instance = berth.instance()
    const conflicts: string[] = []
    let looks = 0
    let done = false
    const watching = (async () => {
      while (!done) {
        conflicts.push(...conflictsOf(containers(instance), await gpusOf(url)))
        looks += 1
        await new Promise((resolve) => setTimeout(resolve, 200))
      }
    })()
    const answers = await inParallel(200, 24, (index) =>
      ask(url, names[(index * 7 + (index % 3)) % names.length] ?? ''),
    )
    done = true
    await watching

    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(answers.every(({ text }) => text.trimEnd().endsWith('"done":true}'))).toBe(true)
    expect(conflicts).toEqual([])
    expect(looks).toBeGreaterThan(3)
    const causes = await causesOf(url)
    expect(causes.filter((cause) => /needs what it holds, and it is idle/.test(cause)).length).toBeGreaterThan(0)
    // Every request says so if its replica was taken from under it.
    expect(answers.map(({ text }) => text).join('')).not.toContain('"error"')
  })

  it('tell who holds them when there is no room for long', async (context) => {
    berth = await startBerth({
      engine: 'docker',
      env: { PATH: smi.path },
      modules: {
        ...module('holder', '{ count: 2 }'),
        ...module('waiter', '{ count: 1 }', 'queue: { timeout: 2s }\n'),
        ...module('modest', 'optional'),
      },
    })
    const { url } = berth
    if ((await gpusOf(url)).length !== 2) notHere(context, 'two GPUs, if only simulated ones')
    const reader = await berth.stream('holder', { parameters: { n: 1_000, pause: 0.05 } })
    await reader.next()
    const refused = await ask(url, 'waiter')
    expect(refused.status).toBe(503)
    expect(JSON.parse(refused.text)).toMatchObject({
      error: {
        code: 'GPU_UNAVAILABLE',
        retryable: true,
        message: expect.stringContaining('held by holder'),
        details: { holders: ['holder'], devices: ['nvidia.com/gpu=0', 'nvidia.com/gpu=1'] },
      },
    })
    // The processor does where a device is optional.
    expect((await ask(url, 'modest')).status).toBe(200)
    expect((await berth.module('modest')).replicas[0]?.gpus).toEqual([])
    expect(await gpusOf(url)).toMatchObject([
      { id: 'nvidia.com/gpu=0', memory: 24 * 1024 ** 3, holders: ['holder'] },
      { id: 'nvidia.com/gpu=1', memory: 24 * 1024 ** 3, holders: ['holder'] },
    ])

    // After a restart the devices of what runs are known to be taken.
    await berth.kill()
    await berth.restart()
    expect((await gpusOf(url)).map(({ holders }) => holders)).toEqual([['holder'], ['holder']])
    // Nobody uses it any more: it makes way.
    expect((await ask(url, 'waiter', 60)).status).toBe(200)
    expect((await berth.module('holder')).replicas.filter(({ state }) => state === 'ready')).toEqual([])
  })

  it('are shared by what is measured, not only by what was asked for', async (context) => {
    berth = await startBerth({
      engine: 'docker',
      env: { PATH: smi.path },
      modules: {
        greedy: {
          ...greedyModule,
          'module.yaml': `models: [greedy]\ndockerfile: Dockerfile\ngpu: { count: 2, memory: 2GiB }\n${patience}`,
        },
        ...module('other', '{ count: 1, memory: 6GiB }'),
      },
    })
    const { url } = berth
    if ((await gpusOf(url)).length !== 2) notHere(context, 'two GPUs, if only simulated ones')
    expect((await ask(url, 'greedy')).status).toBe(200)
    const measured = 20 * 1024 ** 3
    await waitFor(60_000, 'the memory has been measured', async () =>
      (await gpusOf(url)).every(({ used }) => used === measured),
    )
    expect((await gpusOf(url))[0]?.allocations).toEqual([
      {
        module: 'greedy',
        replica: 'greedy-0',
        exclusive: false,
        declared: 2 * 1024 ** 3,
        measured,
        held: measured,
      },
    ])
    const metrics = await (await fetch(`${url}/metrics`)).text()
    expect(metrics).toContain(`berth_gpu_memory_bytes{gpu="nvidia.com/gpu=1",module="greedy"} ${measured}`)

    expect((await ask(url, 'other')).status).toBe(200)
    expect((await berth.module('greedy')).replicas).toMatchObject([{ state: 'idle', models: [] }])
    expect(await causesOf(url)).toContainEqual(expect.stringContaining('module other needs what it holds'))
  })
})

/** Says that it needs little, and has an `nvidia-smi` in its image that tells otherwise while its model is loaded. */
const greedyModule = {
  Dockerfile: 'FROM python:3.13-slim-trixie\nCOPY --chmod=755 nvidia-smi /usr/local/bin/nvidia-smi\n',
  'nvidia-smi': `#!/bin/sh
used=$(cat /tmp/used 2>/dev/null || echo 0)
case "$1" in
  --query-gpu=index,uuid,memory.used) printf '0, GPU-a, %s\\n1, GPU-b, %s\\n' "$used" "$used" ;;
  --query-compute-apps=*) ;;
  *) exit 6 ;;
esac
`,
  'service.py': `
def use(Mebibytes):
    with open("/tmp/used", "w") as File:
        File.write(str(Mebibytes))

def SERVICE_LOAD_MODELS(Models):
    for Name, Config in Models.items():
        Config["_private_loaded"] = True
    use(20 * 1024)

def SERVICE_OFFLOAD_MODELS(Models):
    use(0)

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": "done"}
`,
}

async function ask(
  url: string,
  model: string,
  timeoutS = 280,
): Promise<{ model: string; status: number; text: string }> {
  const answer = await fetch(`${url}/api/models/${model}/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"parameters":{"n":2,"pause":0.01}}',
    signal: AbortSignal.timeout(timeoutS * 1_000),
  })
  return { model, status: answer.status, text: await answer.text() }
}

async function gpusOf(url: string): Promise<readonly GpuView[]> {
  const answer = await fetch(`${url}/api/gpus`)
  return ((await answer.json()) as { gpus: readonly GpuView[] }).gpus
}

/** Two that have a device, and one of them alone; or shares that are more than the device. */
function conflictsOf(running: readonly { module: string; gpus: string[] }[], gpus: readonly GpuView[]): string[] {
  const found: string[] = []
  for (const { id, memory = 0, holders, allocations } of gpus) {
    const having = running.filter((container) => container.gpus.includes(id)).map(({ module: name }) => name)
    if (having.length > 1 && having.some((name) => !name.startsWith('share')))
      found.push(`${id}: ${having.join(' and ')}`)
    if (allocations.length > 1 && allocations.some(({ exclusive }) => exclusive))
      found.push(`ledger of ${id}: ${holders}`)
    const held = allocations.reduce((sum, each) => sum + (each.held ?? 0), 0)
    if (held > memory) found.push(`${id} has ${memory} bytes, and ${held} are promised`)
  }
  return found
}

async function causesOf(url: string): Promise<readonly string[]> {
  const end = AbortSignal.timeout(2_000)
  const answer = await fetch(`${url}/api/events`, { headers: { 'last-event-id': '0' }, signal: end })
  let text = ''
  try {
    for await (const part of answer.body ?? []) text += new TextDecoder().decode(part as Uint8Array)
  } catch {
    // The stream has no end of its own.
  }
  const lines = text.split('\n').filter((line) => line.startsWith('data:'))
  return lines.map((line) => (JSON.parse(line.slice(5)) as BerthEvent).cause)
}

async function inParallel<T>(count: number, width: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const results: T[] = []
  let next = 0
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let index = next++; index < count; index = next++) results[index] = await work(index)
    }),
  )
  return results
}
