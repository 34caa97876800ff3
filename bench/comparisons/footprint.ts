import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Berth, benchModule, startBerth } from '../berth.ts'
import type { Comparison } from '../comparison.ts'
import { cpuSeconds, memoryOf } from '../processes.ts'

/** What the orchestrator itself costs with many modules: most of them only defined, some of them running and idle. */
const modules = 100
const running = 20
const mebibyte = 1024 * 1024
/** After the last start: for the collector and the timers to come to rest, and for folders to count as quiet. */
const restSeconds = 45
const watchedSeconds = 30

export const footprint: Comparison = {
  name: 'footprint',
  about: `the orchestrator with ${modules} modules, ${running} of them running (embedded engine)`,
  async run({ say }) {
    const berth = await startBerth({ engine: 'process' })
    try {
      for (let index = 0; index < modules; index += 1) await berth.addModule(`noop-${index}`, benchModule('noop'))
      // One edit more, for the watcher's own work to be among what is measured.
      await writeFile(join(berth.modulesFolder, 'noop-99', 'notes.txt'), 'an edit')
      for (let index = 0; index < running; index += 1) await berth.infer(`noop-${index}`, {})
      say(`footprint: waiting ${restSeconds} s for it to be idle, then watching it for ${watchedSeconds} s`)
      await pause(restSeconds)
      const before = { cpu: cpuSeconds(berth.pid), reconciled: await reconciled(berth) }
      await pause(watchedSeconds)
      const after = { cpu: cpuSeconds(berth.pid), reconciled: await reconciled(berth) }
      const count = after.reconciled.count - before.reconciled.count
      const reconcileMs = ((after.reconciled.sum - before.reconciled.sum) / count) * 1_000
      const { rss, pss } = memoryOf(berth.pid)
      return [
        row('memory (RSS)', 'MiB', rss / mebibyte, 150, { pss: pss / mebibyte }),
        row('idle processor time, of one core', '%', ((after.cpu - before.cpu) / watchedSeconds) * 100, 1),
        row('one reconcile', 'ms', reconcileMs, 50, { count }),
      ]
    } finally {
      await berth.close()
    }
  },
}

function row(what: string, unit: string, berth: number, bound: number, detail: Record<string, unknown> = {}) {
  const about = `orchestrator, ${modules} modules, ${running} running: ${what}`
  return { what: about, unit, berth, target: { of: 'value', at: 'most', bound }, detail } as const
}

async function reconciled(berth: Berth): Promise<{ readonly sum: number; readonly count: number }> {
  const text = await berth.get('/metrics')
  const value = (name: string) => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1] ?? Number.NaN)
  return { sum: value('berth_reconcile_duration_seconds_sum'), count: value('berth_reconcile_duration_seconds_count') }
}

function pause(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1_000))
}
