import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { promisify } from 'node:util'
import { afterEach, describe, expect, it } from 'vitest'
import { engines, plainModule } from '../support/engines.ts'
import { containersOf, processesInContainers, processesOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

function instanceOf({ dataFolder }: TestBerth): string {
  const db = new DatabaseSync(join(dataFolder, 'berth.db'), { readOnly: true })
  try {
    return String(db.prepare('SELECT id FROM instance').get()?.id)
  } finally {
    db.close()
  }
}

/** Begins an inference and doesn't wait for it; what becomes of it is not the question here. */
function begin(berth: TestBerth, parameters: Record<string, unknown>): void {
  berth.infer('plain', { parameters }).catch(() => {})
}

/** Containers or runner processes of the module that are there now. */
function running(berth: TestBerth, engine: string): string[] {
  const instance = instanceOf(berth)
  if (engine === 'docker')
    return containersOf(instance).map(({ replica, generation, what }) => `${replica} ${generation} ${what}`)
  return processesOf(`BERTH_INSTANCE=${instance}`)
    .filter(({ what }) => what.includes('module-runner/server'))
    .map(({ what }) => what)
}

describe.each(engines)('kill -9 on the %s engine', (engine) => {
  const stages = [
    { name: 'during a start', delayMs: 30 },
    { name: 'during a load', delayMs: 700 },
    { name: 'during a stream', delayMs: 1_600 },
  ]

  it('of the orchestrator at any point: after a restart nothing is orphaned, duplicated or stuck', async () => {
    berth = await startBerth({
      engine,
      modules: { plain: { ...plainModule } },
      config: 'models:\n  plain: { module: plain, load_seconds: 0.5, max_simul_users: 4 }\n',
    })
    for (const { delayMs } of [...stages, ...stages]) {
      begin(berth, { n: 50, pause: 0.05 })
      await new Promise((resolve) => setTimeout(resolve, delayMs * (0.5 + Math.random())))
      await berth.kill()
      await berth.restart()
      const frames = await berth.infer('plain', { parameters: { n: 3 } })
      expect(frames.at(-1), berth.log().slice(-3_000)).toMatchObject({ done: true })
      const { replicas } = await berth.module('plain')
      expect(replicas).toHaveLength(1)
      const current = berth
      await waitFor(
        20_000,
        () => `one of it runs: ${running(current, engine).join('; ')}`,
        async () => running(current, engine).length === 1,
      )
    }
  })

  it.each(['module-runner/server', 'berth_worker'])(
    'of %s at any point: the module answers again, with one replica',
    async (program) => {
      berth = await startBerth({
        engine,
        modules: { plain: { ...plainModule } },
        config: 'models:\n  plain: { module: plain, load_seconds: 0.5, max_simul_users: 4 }\n',
      })
      const current = berth
      for (const stage of ['starting', 'loading', 'ready'] as const) {
        await current.json('POST', '/api/modules/plain/disable?wait=true')
        await current.json('POST', '/api/modules/plain/enable?wait=true')
        begin(current, { n: 50, pause: 0.05 })
        await current.until('plain', ({ state }) => state === stage || state === 'ready' || state === 'failed')
        await killOne(program, current, engine)
        await waitFor(60_000, `it answers again after a kill while ${stage}`, async () => {
          const frames = await current.infer('plain', { parameters: { n: 2 } })
          return frames.at(-1)?.done === true
        })
        expect((await current.module('plain')).replicas).toHaveLength(1)
        await waitFor(20_000, 'one of it runs', async () => running(current, engine).length === 1)
      }
    },
  )

  it('of the runner: the module answers again', async () => {
    berth = await startBerth({ engine, modules: { plain: { ...plainModule } } })
    for (let round = 0; round < 3; round += 1) {
      await berth.infer('plain')
      const pid = pidOf('module-runner/server', berth, engine)
      process.kill(pid, 'SIGKILL')
      const current = berth
      await waitFor(30_000, 'it answers again', async () => (await current.infer('plain')).at(-1)?.done === true)
      expect(running(berth, engine)).toHaveLength(1)
    }
  })

  it('of the worker: requests in flight are told, the next is served', async () => {
    berth = await startBerth({ engine, modules: { plain: { ...plainModule } } })
    await berth.infer('plain')
    const inFlight = berth.infer('plain', { parameters: { n: 1_000, pause: 0.05 } })
    const current = berth
    await waitFor(10_000, 'it streams', async () => (await current.models())[0]?.inflight === 1)
    process.kill(pidOf('berth_worker', berth, engine), 'SIGKILL')
    const frames = await inFlight
    expect(['WORKLOAD_EXITED', 'OUT_OF_MEMORY', 'STREAM_INTERRUPTED']).toContain(frames.at(-1)?.error?.code)
    await waitFor(30_000, 'it answers again', async () => (await current.infer('plain')).at(-1)?.done === true)
  })

  it('of the orchestrator and everything else at once: nothing is left behind', async () => {
    berth = await startBerth({ engine, modules: { plain: { ...plainModule } } })
    await berth.infer('plain')
    const left = modulesProcesses(berth, engine)
    await berth.kill()
    for (const { what } of left) {
      try {
        process.kill(Number(/process (\d+)/.exec(what)?.[1]), 'SIGKILL')
      } catch {
        // It ended by itself.
      }
    }
    await berth.restart()
    expect((await berth.infer('plain')).at(-1)).toMatchObject({ done: true })
    expect(running(berth, engine)).toHaveLength(1)
  })
})

describe.each(engines)('kill -9 during an install on the %s engine', (engine) => {
  it('and `berth down`: nothing is left, and the next start installs anew', async () => {
    const requirements = 'import time\n\ndef Install(_):\n    print("installs now", flush=True)\n    time.sleep(600)\n'
    berth = await startBerth({ engine, modules: { slow: { ...plainModule, 'requirements.py': requirements } } })
    const current = berth
    const begun = () =>
      waitFor(120_000, 'it installs', async () =>
        (await current.logs('slow')).some(({ message }) => message.includes('installs now')),
      )
    await begun()
    await berth.kill()
    await down(berth, engine)
    const { dataFolder } = berth
    const left = () => (engine === 'docker' ? everyContainerOf(instanceOf(current)) : processesOf(dataFolder))
    await waitFor(
      20_000,
      () => `nothing is left: ${JSON.stringify(left())}`,
      async () => left().length === 0,
    )
    await down(berth, engine)
    await rm(join(dataFolder, 'logs'), { recursive: true, force: true })
    await berth.restart()
    await begun()
    expect(await berth.module('slow')).toMatchObject({ environment: { state: 'installing' } })
  })
})

/** `berth down` in a terminal of its own, where no orchestrator answers. */
async function down(berth: TestBerth, engine: string): Promise<void> {
  const { url, dataFolder, modulesFolder } = berth
  const env = {
    ...process.env,
    BERTH_URL: url,
    BERTH_LISTEN: new URL(url).host,
    BERTH_DATA: dataFolder,
    BERTH_MODULES: modulesFolder,
    BERTH_ENGINE: engine,
  }
  const program = join(import.meta.dirname, '../../orchestrator/cli/berth.ts')
  await promisify(execFile)(process.execPath, [program, 'down'], { env, timeout: 120_000 })
}

/** Installers and helpers too. */
function everyContainerOf(instance: string): string[] {
  const filter = `label=dev.berth.instance=${instance}`
  const text = execFileSync('docker', ['ps', '--all', '--quiet', '--filter', filter], { encoding: 'utf8' })
  return text.split('\n').filter((line) => line !== '')
}

function modulesProcesses(berth: TestBerth, engine: string) {
  const instance = instanceOf(berth)
  return engine === 'docker' ? processesInContainers(instance) : processesOf(`BERTH_INSTANCE=${instance}`)
}

/** SIGKILL to one process of the program; it may have ended, or not have begun, by then. */
async function killOne(program: string, berth: TestBerth, engine: string): Promise<void> {
  const found = modulesProcesses(berth, engine).find(({ what }) => what.includes(program))
  const pid = Number(/process (\d+)/.exec(found?.what ?? '')?.[1])
  if (!Number.isInteger(pid)) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

function pidOf(program: string, berth: TestBerth, engine: string): number {
  const found = modulesProcesses(berth, engine).filter(({ what }) => what.includes(program))
  const pid = Number(/process (\d+)/.exec(found[0]?.what ?? '')?.[1])
  expect(found, `one process of ${program}`).not.toHaveLength(0)
  readFileSync(`/proc/${pid}/stat`)
  return pid
}
