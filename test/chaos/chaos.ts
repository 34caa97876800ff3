import { writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { Desired } from './desired.ts'
import { allFaults } from './faults/all.ts'
import type { Fault } from './faults/fault.ts'
import { startLoad } from './load.ts'
import { Random } from './random.ts'
import { Report } from './report.ts'
import { allAnswer, settle } from './settle.ts'
import { watchDoubles } from './watcher.ts'
import { type EngineName, openWorld, type World } from './world.ts'

/**
 * The fault suite: under steady mixed load it kills at random, for so many kills or so long, and looks every now and then
 * whether everything comes to rest as it should. Chance is seeded: what is done, to whom and in which order is the same
 * again; when it hits is up to the machine.
 */
export interface ChaosOptions {
  readonly engine: EngineName
  readonly kills: number
  readonly seconds: number
  readonly seed: number
  /** Names of faults; empty: all. */
  readonly faults: readonly string[]
  /** Milliseconds between two faults, at most. */
  readonly paceMs: number
  readonly ownDaemon: boolean
  /** Ends it early, and in good order. */
  readonly signal: AbortSignal
  readonly say: (text: string) => void
}

const clients = 10
/** So many broken invariants end the run. */
const mostBroken = 20
/** Faults between two looks at whether everything comes to rest. */
const round = { least: 10, most: 20 }

export async function runChaos(options: ChaosOptions): Promise<Report> {
  const { engine, say, seed, ownDaemon } = options
  const random = new Random(seed)
  const liveRestore = random.chance(0.5)
  const world = await openWorld({ engine, ownDaemon, liveRestore, say })
  const report = new Report(say)
  try {
    if (world.daemon) report.notes.push(`Docker daemon of its own, ${liveRestore ? 'with' : 'without'} live-restore`)
    const desired = new Desired(world, report)
    await settle(world, desired, report)
    const over = () =>
      options.signal.aborted ||
      report.violations.length > mostBroken ||
      report.kills >= options.kills ||
      report.seconds >= options.seconds
    for (let number = 0; !over(); number += 1)
      await oneRound(world, desired, report, random.fork(number), options, over)
    say(`${report.kills} kills, ${report.requests()} requests in ${Math.round(report.seconds)} s`)
  } catch (error) {
    say(world.berth.log().slice(-5_000))
    throw error
  } finally {
    if (report.violations.length > 0) await keepLog(world, report, options)
    await world.close()
  }
  return report
}

/** The orchestrator's log and what was done to it, in the order of their times. */
async function keepLog({ berth }: World, { strikes }: Report, { engine, seed, say }: ChaosOptions): Promise<void> {
  const file = join(tmpdir(), `berth-chaos-${engine}-${seed}.log`)
  const timeOf = (line: string): string => /\d{4}-\d\d-\d\dT[\d:.]+Z/.exec(line)?.[0] ?? ''
  const lines = [...berth.log().split('\n'), ...strikes].map((line) => ({ line, time: timeOf(line) }))
  lines.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0))
  await writeFile(file, `${lines.map(({ line }) => line).join('\n')}\n`)
  say(`what happened is in ${file}`)
}

async function oneRound(
  world: World,
  desired: Desired,
  report: Report,
  random: Random,
  options: ChaosOptions,
  over: () => boolean,
): Promise<void> {
  const stop = new AbortController()
  const load = startLoad({ world, desired, report, random: random.fork(1), clients })
  const changing = desired.run(random.fork(2), stop.signal)
  const watching = watchDoubles(world, report, stop.signal)
  const wanted = random.int(round.least, round.most)
  const chance = random.fork(3)
  const possible = allFaults.filter(
    (fault) =>
      fault.engines.includes(world.engine) &&
      (fault.possible?.(world) ?? true) &&
      (options.faults.length === 0 || options.faults.includes(fault.name)),
  )
  const busy = new Map<string, Promise<void>>()
  for (let count = 0; count < wanted && !over(); count += 1) {
    await delay(chance.int(100, options.paceMs))
    await clearBackOff(world)
    const free = possible.filter(({ resource }) => !busy.has(resource))
    if (free.length === 0) continue
    const fault = chance.weighted(free)
    const running = strike(fault, world, report, chance.fork(count), load.hit)
    busy.set(
      fault.resource,
      running.finally(() => busy.delete(fault.resource)),
    )
  }
  await Promise.all(busy.values())
  stop.abort()
  await changing
  await desired.restore()
  await allAnswer(world, desired, report)
  await watching
  await load.stop()
  await settle(world, desired, report)
}

async function strike(
  fault: Fault,
  world: World,
  report: Report,
  random: Random,
  hit: (fault: string, models: readonly string[]) => void,
): Promise<void> {
  try {
    await fault.run(world, random, (kills, models) => {
      const count = report.fault(fault.name)
      count.times += 1
      count.kills += kills
      report.struck(fault.name, models.join(', '))
      hit(fault.name, models)
    })
  } catch (error) {
    report.broken('stuck', `${fault.name}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** A person would not wait a minute for what was killed for the eighth time: `restart` sets its count back. */
async function clearBackOff({ berth }: World): Promise<void> {
  const signal = AbortSignal.timeout(2_000)
  const answer = await berth.request('GET', '/api/modules', undefined, { signal }).catch(() => undefined)
  if (answer?.ok !== true) return
  const { modules } = (await answer.json().catch(() => ({ modules: [] }))) as { modules: ModuleView[] }
  const failed = modules.filter(({ desired, state, error }) => desired === 'enabled' && state === 'failed' && error)
  if (failed.length * 2 < modules.length) return
  await Promise.allSettled(
    failed.map(async ({ id }) => (await berth.request('POST', `/api/modules/${id}/restart`, {}, { signal })).text()),
  )
}
