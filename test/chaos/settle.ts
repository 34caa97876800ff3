import { setTimeout as delay } from 'node:timers/promises'
import type { ModelView, ModuleView } from '../../orchestrator/domain/views.ts'
import { ask } from './client.ts'
import type { Desired } from './desired.ts'
import { models, probe, requestLimitMs } from './modules.ts'
import { classOf } from './outcome.ts'
import type { Report } from './report.ts'
import { isLive, type Seen } from './sight.ts'
import type { World } from './world.ts'

/**
 * After the faults: every module that is switched on answers within its back-off, what runs is what the API says, what
 * was acknowledged holds, and nobody holds a lease or waits any more.
 */
export async function settle(world: World, desired: Desired, report: Report): Promise<void> {
  await allAnswer(world, desired, report)
  await quiet(world, desired, report)
}

/** Also under load. */
export async function allAnswer(world: World, desired: Desired, report: Report): Promise<void> {
  const enabled = new Set(desired.enabled())
  const wanted = Object.keys(models).filter((model) => enabled.has(models[model] ?? ''))
  await Promise.all(wanted.map((model) => answersAgain(world, model, report)))
}

/**
 * A request that is told to come later comes exactly then. What a fault has begun may show as late as in the first
 * refusal, and what that refusal's start comes to in the second; a third means that waiting does not help.
 */
const patience = 3
const mostBusy = 60

async function answersAgain(world: World, model: string, report: Report): Promise<void> {
  const began = performance.now()
  const told: string[] = []
  for (let busy = 0; told.length < patience && busy < mostBusy; ) {
    const outcome = await ask(world.berth.url, probe(model), requestLimitMs)
    if (outcome.kind === 'ok') return
    // Others fill its queue: it works.
    if (outcome.kind === 'error' && outcome.code === 'MODULE_BUSY') {
      busy += 1
      await delay(outcome.retryAfterMs ?? 1_000)
      continue
    }
    if (outcome.kind === 'hung') return report.broken('stuck', `${model}: no answer within the bound, without faults`)
    const waitMs = outcome.kind === 'error' ? (outcome.retryAfterMs ?? 500) : 500
    told.push(`${classOf(outcome)}${outcome.kind === 'error' ? ` (${outcome.message})` : ''}, again after ${waitMs} ms`)
    await delay(waitMs)
  }
  const seconds = Math.round((performance.now() - began) / 1000)
  report.broken('not ready again', `${model}, for ${seconds} s without faults: ${told.join('; ')}`)
}

/** A replica beside one that serves may wait for the whole of the longest back-off. */
const quietMs = 90_000
const passing = new Set(['preparing', 'starting', 'loading', 'offloading', 'stopping'])

/** Polls until nothing is left to complain of; what still is at the end of its time is broken. */
async function quiet(world: World, desired: Desired, report: Report): Promise<void> {
  const deadline = performance.now() + quietMs
  for (;;) {
    const found = await complaints(world).catch((error: unknown) => [['stuck', String(error)] as const])
    if (found.length > 0 && performance.now() < deadline) {
      await delay(100)
      continue
    }
    for (const [invariant, what] of found) report.broken(invariant, what)
    break
  }
  const { modules } = await world.berth.json<{ modules: ModuleView[] }>('GET', '/api/modules')
  desired.check(modules)
}

type Complaint = readonly [
  'orphan' | 'double generation' | 'lease not given back' | 'stuck' | 'not ready again',
  string,
]

async function complaints({ berth, sight }: World): Promise<readonly Complaint[]> {
  const [{ modules }, served, seen] = await Promise.all([
    berth.json<{ modules: ModuleView[] }>('GET', '/api/modules'),
    berth.json<{ models: ModelView[] }>('GET', '/api/models'),
    sight.list(),
  ])
  const replicas = modules.flatMap((module) => module.replicas)
  return [
    ...seen.flatMap((each) => orphan(each, replicas)),
    ...replicas.flatMap((replica): readonly Complaint[] => {
      const live = seen.filter((each) => each.replica === replica.id && isLive(each)).length
      const { id, state } = replica
      if (passing.has(state)) return [['stuck', `${id} is ${state}`]]
      if (state !== 'failed' && live !== 1) return [['not ready again', `${id} is ${state}, ${live} of it live`]]
      return replica.inflight > 0 ? [['lease not given back', `${id} has ${replica.inflight} in flight`]] : []
    }),
    ...modules.flatMap(({ id, desired, scale, replicas: own }): readonly Complaint[] => {
      const there = own.filter(({ state }) => state === 'ready' || state === 'idle').length
      const least = desired === 'enabled' ? (scale?.min ?? 0) : 0
      return there < least ? [['not ready again', `${id} has ${there} of ${least} replicas`]] : []
    }),
    ...served.models.flatMap(({ name, queued, inflight }): readonly Complaint[] =>
      queued + inflight > 0 ? [['lease not given back', `${name}: ${queued} queued, ${inflight} in flight`]] : [],
    ),
  ]
}

/** Ours, and nobody's: of no replica that the API knows, or left beside it. */
function orphan(each: Seen, replicas: readonly ModuleView['replicas'][number][]): readonly Complaint[] {
  const owner = replicas.find(({ id, generation }) => id === each.replica && generation === each.generation)
  if (owner && isLive(each) && owner.state !== 'failed' && owner.state !== 'absent') return []
  const role = each.role === 'workload' ? `${each.replica} generation ${each.generation}` : each.role
  return [
    [
      'orphan',
      `${role} (${each.id.slice(0, 12)}) is ${each.state}, and the API says ${owner?.state ?? 'nothing'} of it`,
    ],
  ]
}
