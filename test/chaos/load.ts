import { setTimeout as delay } from 'node:timers/promises'
import { ask } from './client.ts'
import type { Desired } from './desired.ts'
import { judge } from './judge.ts'
import { models, question, requestLimitMs } from './modules.ts'
import type { Outcome } from './outcome.ts'
import type { Random } from './random.ts'
import type { Report } from './report.ts'
import type { World } from './world.ts'

/** Steady mixed load: clients that ask one thing after the other, and bursts that overflow the queue of a narrow model. */
export interface Load {
  /** A fault has hit these models: the next good answer to a later request says how long it took. */
  hit(fault: string, models: readonly string[]): void
  /** No new requests; resolves when those under way have ended. */
  stop(): Promise<void>
}

export interface LoadOptions {
  readonly world: World
  readonly desired: Desired
  readonly report: Report
  readonly random: Random
  readonly clients: number
}

const burst = 14

export function startLoad(options: LoadOptions): Load {
  const { world, desired, report, random } = options
  const waiting: { readonly fault: string; readonly model: string; readonly atMs: number }[] = []
  let stopped = false

  async function send(model: string, chance: Random): Promise<Outcome> {
    const beganMs = performance.now()
    const asked = question(model, chance)
    const outcome = await ask(world.berth.url, asked, requestLimitMs)
    report.count(outcome)
    const reason = judge(outcome, { model, beganMs }, world, desired)
    if (reason !== undefined) report.broken(outcome.kind === 'hung' ? 'stuck' : 'unexplained failure', reason)
    if (outcome.kind === 'ok') recovered(model, beganMs)
    return outcome
  }

  function recovered(model: string, beganMs: number): void {
    for (let index = waiting.length - 1; index >= 0; index -= 1) {
      const hit = waiting[index]
      if (hit?.model !== model || hit.atMs > beganMs) continue
      waiting.splice(index, 1)
      report.fault(hit.fault).recoveriesMs.push(performance.now() - hit.atMs)
    }
  }

  async function client(chance: Random): Promise<void> {
    while (!stopped) {
      const model = chance.pick(Object.keys(models))
      const bursts = model === 'narrow' && chance.chance(0.1)
      const outcomes = await Promise.all(Array.from({ length: bursts ? burst : 1 }, () => send(model, chance)))
      const calm = outcomes.every(({ kind }) => kind === 'ok' || kind === 'left')
      await delay(calm ? chance.int(5, 60) : chance.int(100, 500))
    }
  }

  const clients = Array.from({ length: options.clients }, (_, index) => client(random.fork(index)))
  return {
    hit(fault, hitModels) {
      for (const model of hitModels) waiting.push({ fault, model, atMs: performance.now() })
    },
    async stop() {
      stopped = true
      await Promise.all(clients)
    },
  }
}
