import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Endpoint, Engine } from '../../orchestrator/engines/engine.ts'
import { createProcessEngine } from '../../orchestrator/engines/process/process-engine.ts'
import type { WorkloadSpec } from '../../orchestrator/engines/workload-spec.ts'
import { callEndpoint } from '../support/endpoint-client.ts'
import { type EngineModule, engineSpec } from '../support/engine-spec.ts'
import { isAlive, processesWith } from '../support/processes.ts'
import { type EngineHarness, engineContract } from './engine.ts'

const repositoryRoot = join(import.meta.dirname, '../..')
const patience = { timeout: 60_000, interval: 50 }
const forever = (): AbortSignal => AbortSignal.timeout(300_000)

engineContract('process', makeHarness)

async function makeHarness(): Promise<EngineHarness> {
  const folders: string[] = []
  const engines: Engine[] = []
  const connect = async (instance: string, dataDirectory: string): Promise<Engine> => {
    const engine = createProcessEngine({ instance, dataDirectory, repositoryRoot, env: process.env })
    engines.push(engine)
    await engine.connect(forever())
    return engine
  }
  const newFolder = async (): Promise<string> => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-process-'))
    folders.push(folder)
    return folder
  }
  const instance = randomUUID()
  const data = await newFolder()
  let engine = await connect(instance, data)
  return {
    get engine() {
      return engine
    },
    spec: (overrides) => engineSpec(instance, overrides),
    async restartEngine() {
      await engine.close()
      engine = await connect(instance, data)
    },
    async otherInstance() {
      const other = randomUUID()
      return {
        engine: await connect(other, await newFolder()),
        spec: (overrides) => engineSpec(other, overrides),
      }
    },
    async kill(id, signal) {
      const workload = (await engine.list()).find((each) => each.id === id)
      if (workload === undefined) throw new Error(`no workload ${id}`)
      process.kill(runnerOf(instance, workload.replica), signal)
    },
    async dispose() {
      await Promise.all(engines.map((each) => each.close()))
      for (const folder of folders) await rm(folder, { recursive: true, force: true })
      expect(processesWith({ BERTH_INSTANCE: instance })).toEqual([])
    },
  }
}

describe('process engine on its machine', () => {
  let data: string
  let instance: string
  const owners: ChildProcess[] = []
  const engines: Engine[] = []

  beforeAll(async () => {
    data = await mkdtemp(join(tmpdir(), 'berth-process-'))
  })
  afterAll(async () => {
    await rm(data, { recursive: true, force: true })
  })
  afterEach(async () => {
    for (const owner of owners.splice(0)) owner.kill('SIGKILL')
    await Promise.all(engines.splice(0).map((engine) => engine.close()))
    await nothingRemains()
  })

  async function connect(dataDirectory = data, env: NodeJS.ProcessEnv = process.env): Promise<Engine> {
    const engine = createProcessEngine({ instance, dataDirectory, repositoryRoot, env })
    engines.push(engine)
    await engine.connect(forever())
    return engine
  }

  async function newEngine(dataDirectory?: string, env?: NodeJS.ProcessEnv): Promise<Engine> {
    instance = randomUUID()
    return await connect(dataDirectory, env)
  }

  async function run(engine: Engine): Promise<{ spec: WorkloadSpec; endpoint: Endpoint; id: string }> {
    const spec = engineSpec(instance)
    await engine.prepare(spec, forever(), () => undefined)
    const { endpoint, id } = await engine.start(spec, forever())
    await untilState(endpoint, 'idle')
    return { spec, endpoint, id }
  }

  /** An orchestrator of another process that runs `module`; resolves once it has said `until`. */
  async function ownerOf(module: EngineModule, until: string): Promise<ChildProcess> {
    instance = randomUUID()
    const script = join(repositoryRoot, 'test/support/engine-owner.ts')
    const owner = spawn(process.execPath, [script, instance, data, module], { stdio: ['ignore', 'pipe', 'inherit'] })
    owners.push(owner)
    for await (const line of createInterface({ input: owner.stdout })) if (line.includes(until)) return owner
    throw new Error(`the owner of the engine ended before it said ${until}`)
  }

  const environmentFolders = async (): Promise<string[]> =>
    (await readdir(join(data, 'environments'))).filter((name) => !name.endsWith('.lock'))

  const nothingRemains = (): Promise<void> =>
    vi.waitFor(() => expect(processesWith({ BERTH_INSTANCE: instance })).toEqual([]), patience)

  it("keeps the orchestrator's own variables from modules", async () => {
    const engine = await newEngine(data, { ...process.env, BERTH_ADMIN_KEY: 'a secret', SOME_TOKEN: 'another' })
    const { endpoint, spec } = await run(engine)
    const names = ['BERTH_ADMIN_KEY', 'SOME_TOKEN', 'PATH', 'HOME']
    const { environment } = await infer(endpoint, spec, { do: 'environment', names })
    expect(environment).toMatchObject({
      BERTH_ADMIN_KEY: null,
      SOME_TOKEN: null,
      PATH: expect.stringContaining('/'),
      HOME: expect.stringContaining(data),
    })
    for (const { pid } of processesWith({ BERTH_INSTANCE: instance })) {
      expect(processesWith({ BERTH_ADMIN_KEY: 'a secret' }).map((each) => each.pid)).not.toContain(pid)
    }
  })

  it('ends the worker when the runner is killed', async () => {
    const engine = await newEngine()
    const { id } = await run(engine)
    expect(processesWith({ BERTH_INSTANCE: instance }).length).toBeGreaterThan(1)
    process.kill(runnerOf(instance, 'probe-0'), 'SIGKILL')
    await nothingRemains()
    await vi.waitFor(async () => {
      expect(await engine.list()).toMatchObject([{ id, state: 'exited', exit: { signal: 'SIGKILL' } }])
    }, patience)
  })

  it('goes on when the worker is killed: the runner has another', async () => {
    const engine = await newEngine()
    const { endpoint, id } = await run(engine)
    const runner = runnerOf(instance, 'probe-0')
    for (const { pid } of processesWith({ BERTH_INSTANCE: instance })) if (pid !== runner) process.kill(pid, 'SIGKILL')
    await vi.waitFor(async () => {
      const { json } = await callEndpoint(endpoint, { path: '/health' })
      expect(json).toMatchObject({ state: 'idle', workerRestarts: 1 })
    }, patience)
    expect(await engine.list()).toMatchObject([{ id, state: 'running' }])
  })

  it('ends what a module has started, in whatever session', async () => {
    const engine = await newEngine()
    const { endpoint, spec, id } = await run(engine)
    const { pid } = await infer(endpoint, spec, { do: 'fork' })
    expect(isAlive(Number(pid))).toBe(true)
    await engine.stop(id, { graceMs: 10_000 })
    expect(isAlive(Number(pid))).toBe(false)
  })

  it('leaves nothing when its owner is killed while a module runs', async () => {
    const owner = await ownerOf('probe', 'started')
    expect(processesWith({ BERTH_INSTANCE: instance }).length).toBeGreaterThan(0)
    owner.kill('SIGKILL')
    await nothingRemains()
    const engine = await connect()
    expect(await engine.list()).toEqual([])
    await run(engine)
  })

  it('leaves nothing when its owner is killed while it installs', async () => {
    const owner = await ownerOf('slow-install', 'probe install waits')
    expect(processesWith({ BERTH_INSTANCE: instance }).length).toBeGreaterThan(0)
    owner.kill('SIGKILL')
    await nothingRemains()
    const engine = await connect()
    expect(await engine.environments.list()).toEqual([])
    expect(await environmentFolders()).toEqual([])
  })

  it('ends at its start what could not end by itself', async () => {
    const owner = await ownerOf('probe', 'started')
    const frozen = processesWith({ BERTH_INSTANCE: instance }).map((each) => each.pid)
    for (const pid of frozen) process.kill(pid, 'SIGSTOP')
    owner.kill('SIGKILL')
    expect(frozen.filter(isAlive)).toEqual(frozen)
    await connect()
    expect(processesWith({ BERTH_INSTANCE: instance })).toEqual([])
  })

  it('leaves those of another data folder alone, though that has the same instance', async () => {
    const first = await newEngine()
    const { id, endpoint } = await run(first)
    const folder = await mkdtemp(join(tmpdir(), 'berth-process-'))
    const second = await connect(folder)
    expect(await second.list()).toEqual([])
    expect(await first.list()).toMatchObject([{ id, state: 'running' }])
    await untilState(endpoint, 'idle')
    await second.close()
    await rm(folder, { recursive: true, force: true })
  })

  it('leaves no process of an install that was cancelled', async () => {
    const engine = await newEngine()
    const controller = new AbortController()
    const spec = engineSpec(instance, { module: 'slow-install' })
    const installing = engine.prepare(spec, controller.signal, ({ line }) => {
      if (line?.includes('probe install waits')) controller.abort(new Error('no longer wanted'))
    })
    await expect(installing).rejects.toThrow('no longer wanted')
    await nothingRemains()
    await engine.close()
    expect(await environmentFolders()).toEqual([])
  })

  it('gives up an install that takes longer than it may', async () => {
    const engine = await newEngine()
    const spec = engineSpec(instance, { module: 'slow-install', installTimeoutMs: 200 })
    await expect(engine.prepare(spec, forever(), () => undefined)).rejects.toMatchObject({
      code: 'REQUIREMENTS_FAILED',
      details: { remedy: expect.stringContaining('timeouts.install') },
    })
    await nothingRemains()
  })

  it('works in a data folder whose path is too long for a socket', async () => {
    const engine = await newEngine(join(data, 'a-folder-with-a-long-name-'.repeat(6)))
    const { endpoint } = await run(engine)
    expect(endpoint).toMatchObject({ kind: 'unix' })
  })
})

/** The process id of a replica's runner. */
function runnerOf(instance: string, replica: string): number {
  const family = processesWith({ BERTH_INSTANCE: instance, BERTH_REPLICA: replica })
  const runner = family.find((each) => each.command.includes('module-runner/server/main.ts'))
  if (runner === undefined) throw new Error(`no runner of ${replica}: ${JSON.stringify(family)}`)
  return runner.pid
}

function untilState(endpoint: Endpoint, state: string): Promise<void> {
  return vi.waitFor(async () => {
    expect((await callEndpoint(endpoint, { path: '/health' })).json).toMatchObject({ state })
  }, patience)
}

/** The `extra` of the first chunk. */
async function infer(endpoint: Endpoint, spec: WorkloadSpec, parameters: object): Promise<Record<string, unknown>> {
  const { token } = spec
  const body = { model: spec.module, config: {}, parameters }
  await callEndpoint(endpoint, { path: '/load', body: { models: spec.runner.models }, token })
  const { json } = await callEndpoint(endpoint, { path: '/infer', body, token })
  const [first] = json as { chunk?: { response: { extra?: Record<string, unknown> } } }[]
  if (first?.chunk?.response.extra === undefined) throw new Error(`no chunk: ${JSON.stringify(json)}`)
  return first.chunk.response.extra
}
