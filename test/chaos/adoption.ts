import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { median } from '../../bench/statistics.ts'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { plainModule } from '../support/engines.ts'
import { startBerth } from '../support/orchestrator.ts'
import { ask } from './client.ts'

/** How long it takes from SIGKILL to the orchestrator until every module is served again, by the replica that it had. */
export interface Adoption {
  readonly modules: number
  /** From the signal to the first answer of any module, and of the last module, milliseconds; medians. */
  readonly firstMs: number
  readonly allMs: number
  /** Replicas that were not taken over. */
  readonly lost: readonly string[]
}

const rounds = 5
const atOnce = 4
const limitMs = 30_000

export async function measureAdoption(count: number, say: (text: string) => void): Promise<Adoption> {
  const ids = Array.from({ length: count }, (_, index) => `adopted-${index}`)
  const berth = await startBerth({ engine: 'docker', modules: Object.fromEntries(ids.map((id) => [id, plainModule])) })
  try {
    const answered = async (id: string): Promise<void> => {
      const question = { model: id, parameters: { n: 1 }, stream: true, expected: '0' }
      for (const deadline = Date.now() + limitMs; Date.now() < deadline; ) {
        if ((await ask(berth.url, question, limitMs)).kind === 'ok') return
        await delay(20)
      }
      throw new Error(`module ${id} does not answer:\n${berth.log().slice(-3_000)}`)
    }
    const rest = [...ids]
    const warm = async (): Promise<void> => {
      for (let id = rest.shift(); id !== undefined; id = rest.shift()) await answered(id)
    }
    await Promise.all(Array.from({ length: atOnce }, warm))
    const generations = async (): Promise<string[]> => {
      const { modules } = await berth.json<{ modules: ModuleView[] }>('GET', '/api/modules')
      return modules.flatMap(({ replicas }) => replicas.map(({ id, generation }) => `${id} ${generation}`))
    }
    const before = await generations()
    const first: number[] = []
    const all: number[] = []
    for (let round = 0; round < rounds; round += 1) {
      const gone = once(berth.process, 'exit')
      const began = performance.now()
      berth.process.kill('SIGKILL')
      await gone
      await berth.restart({ wait: false })
      const done = ids.map((id) => answered(id))
      await Promise.race(done)
      first.push(performance.now() - began)
      await Promise.all(done)
      all.push(performance.now() - began)
      say(
        `adoption: first answer after ${Math.round(first.at(-1) ?? 0)} ms, all after ${Math.round(all.at(-1) ?? 0)} ms`,
      )
    }
    const after = new Set(await generations())
    return {
      modules: count,
      firstMs: median(first),
      allMs: median(all),
      lost: before.filter((each) => !after.has(each)),
    }
  } finally {
    await berth.close()
  }
}
