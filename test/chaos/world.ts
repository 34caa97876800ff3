import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'
import { mayMount, mountSmallDisk, type SmallDisk } from '../support/small-disk.ts'
import { buildRunnerImage, DockerDaemon } from './docker-daemon.ts'
import { added, configuration, modules } from './modules.ts'
import { Outages } from './outages.ts'
import { dockerSight, processSight, type Sight } from './sight.ts'

const run = promisify(execFile)

export type EngineName = 'docker' | 'process'

/** Everything that a run of the suite acts on: one Berth, what runs it, and what it runs. */
export interface World {
  readonly engine: EngineName
  readonly berth: TestBerth
  readonly sight: Sight
  /** Absent where none can be started: then it is never stopped. */
  readonly daemon: DockerDaemon | undefined
  /** Of the data folder; absent where nothing can be mounted. */
  readonly disk: SmallDisk | undefined
  readonly outages: Outages
  /** Folder of a module that can be added by its path. */
  readonly addable: string
  docker(...args: readonly string[]): Promise<string>
  /** SIGKILL, or SIGTERM; then a new start after a pause. Resolves when it answers again, rejects when it does not. */
  restart(signal: 'SIGKILL' | 'SIGTERM', pauseMs: number): Promise<Restarted>
  close(): Promise<void>
}

export interface Restarted {
  readonly exitCode: number | null
  /** From the signal to the first answer of the new one. */
  readonly awayMs: number
}

export interface WorldOptions {
  readonly engine: EngineName
  /** A Docker daemon of its own, if there can be one. */
  readonly ownDaemon: boolean
  readonly liveRestore: boolean
  readonly say: (text: string) => void
}

/** Large enough for logs and the store of a run, small enough to be filled at once. */
const diskMegabytes = 64
const backMs = 60_000

export async function openWorld(options: WorldOptions): Promise<World> {
  const { engine, say } = options
  const closing: (() => Promise<unknown> | undefined)[] = []
  const close = async (): Promise<void> => {
    for (const step of closing.splice(0).reverse()) await Promise.resolve(step()).catch((error) => say(String(error)))
  }
  try {
    const daemon = engine === 'docker' && options.ownDaemon ? await openDaemon(options) : undefined
    if (daemon) closing.push(() => daemon.close())
    const disk = mayMount() ? mountSmallDisk(diskMegabytes) : undefined
    if (disk) closing.push(async () => disk.remove())
    else say('nothing can be mounted here: the disk is never full')
    const elsewhere = await mkdtemp(join(tmpdir(), 'berth-chaos-'))
    closing.push(() => rm(elsewhere, { recursive: true, force: true }))
    const addable = join(elsewhere, added.id)
    await mkdir(addable)
    for (const [name, content] of Object.entries(added.files)) await writeFile(join(addable, name), content)
    const dataFolder = disk === undefined ? join(elsewhere, 'data') : join(disk.folder, 'data')
    const berth = await startBerth({
      engine,
      modules,
      config: configuration(),
      env: {
        BERTH_DATA: dataFolder,
        BERTH_LOG_LEVEL: 'info',
        ...(daemon === undefined ? {} : { DOCKER_HOST: daemon.host, ...ownDaemonSettings }),
      },
    })
    closing.push(() => berth.close())
    const instance = berth.instance()
    const outages = new Outages()
    return {
      engine,
      berth,
      sight: engine === 'docker' ? dockerSight(daemon?.host, () => instance) : processSight(() => instance),
      daemon,
      disk,
      outages,
      addable,
      docker: async (...args) => (daemon ? daemon.docker(...args) : (await run('docker', [...args])).stdout),
      restart: (signal, pauseMs) => restart(berth, outages, signal, pauseMs),
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

/** Its networks are not those that the machine's own daemon gives. */
const ownDaemonSettings = {
  BERTH_DOCKER_RUNNER_IMAGE: 'berth-test/chaos-runner:latest',
  BERTH_DOCKER_SUBNETS: '10.217.0.0/16',
}

async function openDaemon({ liveRestore, say }: WorldOptions): Promise<DockerDaemon | undefined> {
  const obstacle = DockerDaemon.obstacle()
  if (obstacle !== undefined) {
    say(`${obstacle}: the machine's own daemon is used and never stopped`)
    return undefined
  }
  const runner = await buildRunnerImage()
  const daemon = await DockerDaemon.open({ liveRestore })
  try {
    await daemon.take(['python:3.13-slim-trixie', runner])
    return daemon
  } catch (error) {
    await daemon.close()
    throw error
  }
}

async function restart(
  berth: TestBerth,
  outages: Outages,
  signal: 'SIGKILL' | 'SIGTERM',
  pauseMs: number,
): Promise<Restarted> {
  const back = outages.begin('orchestrator')
  const began = performance.now()
  try {
    const child = berth.process
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit')
      child.kill(signal)
      await gone
    }
    const { exitCode } = child
    await delay(pauseMs)
    await startAgain(berth, outages)
    return { exitCode, awayMs: performance.now() - began }
  } finally {
    back()
  }
}

/** As a service manager would: one that ends by itself, for want of room on its disk, is started again. */
async function startAgain(berth: TestBerth, outages: Outages): Promise<void> {
  const deadline = performance.now() + backMs
  for (;;) {
    await berth.restart({ wait: false })
    const child = berth.process
    while (child.exitCode === null && child.signalCode === null) {
      if ((await fetch(`${berth.url}/healthz`).catch(() => undefined))?.status === 200) return
      if (performance.now() > deadline)
        throw new Error(`the orchestrator does not answer:\n${berth.log().slice(-3_000)}`)
      await delay(10)
    }
    if (!outages.since('disk', performance.now() - 5_000) || performance.now() > deadline)
      throw new Error(`the orchestrator ended by itself:\n${berth.log().slice(-3_000)}`)
    await delay(250)
  }
}
