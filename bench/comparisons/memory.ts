import { type Berth, benchModule, startBerth } from '../berth.ts'
import type { Comparison, Row } from '../comparison.ts'
import { memoryOf } from '../processes.ts'
import { load } from '../wrk.ts'

/** What a module costs that nobody uses: its runner and its worker, with nothing loaded but the no-op module. */
const mebibyte = 1024 * 1024
/** The runner tidies up some seconds after its start, and once it has been quiet for ten. */
const quietSeconds = 25

export const memory: Comparison = {
  name: 'memory',
  about: 'memory of an idle runner and its worker',
  async run({ say }) {
    const berth = await startBerth({ engine: 'process', models: { noop: { module: 'noop', max_simul_users: 64 } } })
    try {
      await berth.addModule('noop', benchModule('noop'))
      await berth.infer('noop', {})
      // The first start of all compiles the runner; from the second on it is found compiled, as it is in its image.
      await berth.post('/api/modules/noop/restart')
      await berth.infer('noop', {})
      say(`memory: waiting ${quietSeconds} s for it to be idle`)
      await idle()
      const fresh = rows(berth, 'idle after its first answer', 75)
      await load({ url: `${berth.url}/api/models/noop/infer`, body: {}, seconds: 5 })
      await idle()
      return [...fresh, ...rows(berth, 'idle after 5 s of full load')]
    } finally {
      await berth.close()
    }
  },
}

function idle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, quietSeconds * 1_000))
}

/** Resident and proportional: the first counts the pages that runners share (Node's own code) once for each of them. */
function rows(berth: Berth, when: string, bound?: number): readonly Row[] {
  const { runner, worker } = berth.processes()
  const own = { runner: memoryOf(runner), worker: memoryOf(worker) }
  const detail = { runner: mebibytes(own.runner), worker: mebibytes(own.worker) }
  const of = (kind: 'rss' | 'pss') => (own.runner[kind] + own.worker[kind]) / mebibyte
  const target = bound === undefined ? {} : { target: { of: 'value', at: 'most', bound } as const }
  return [
    { what: `runner and worker, ${when}: RSS`, unit: 'MiB', berth: of('rss'), ...target, detail },
    { what: `runner and worker, ${when}: PSS`, unit: 'MiB', berth: of('pss'), detail },
  ]
}

function mebibytes(memory: { readonly rss: number; readonly pss: number }): Record<string, number> {
  return { rss: memory.rss / mebibyte, pss: memory.pss / mebibyte }
}
