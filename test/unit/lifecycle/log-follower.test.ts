import { describe, expect, it, onTestFinished } from 'vitest'
import { systemClock } from '../../../orchestrator/domain/clock.ts'
import type { LogRecord } from '../../../orchestrator/domain/views.ts'
import type { Engine, LogLine, LogOptions, ObservedWorkload } from '../../../orchestrator/engines/engine.ts'
import { createLogFollower } from '../../../orchestrator/lifecycle/log-follower.ts'
import type { ModuleLogs } from '../../../orchestrator/telemetry/module-logs.ts'
import { eventually } from '../../support/eventually.ts'

const line = (text: string, timeMs: number): LogLine => ({ stream: 'stdout', text, timeMs })

/** An engine whose connection breaks after each of these rounds of lines but the last, and a log in memory. */
function breakingEngine(rounds: readonly (readonly LogLine[])[]) {
  const asked: LogOptions[] = []
  const workload = { id: 'w', state: 'running' } as ObservedWorkload
  let listed: ObservedWorkload[] = [workload]
  const engine = {
    async *logs(_id: string, options: LogOptions) {
      const round = rounds[asked.push(options) - 1] ?? []
      yield* round
      if (asked.length < rounds.length) throw new Error('the connection broke')
      listed = [{ ...workload, state: 'exited' }]
    },
    list: () => Promise.resolve(listed),
  } as unknown as Engine
  const records: LogRecord[] = []
  const logs = {
    append: (_module: string, record: LogRecord) => records.push(record),
    async *read() {},
  } as unknown as ModuleLogs
  const stop = new AbortController()
  onTestFinished(() => stop.abort())
  return { asked, follower: createLogFollower(engine, logs, systemClock, stop.signal), records }
}

describe("a workload's output", () => {
  it('is taken up again where the connection broke, and left when the workload has ended', async () => {
    const { asked, follower, records } = breakingEngine([[line('a', 5)], [line('b', 9)]])
    follower.follow('mod', { id: 'mod-0', generation: 1 }, 'w')
    await eventually(() => expect(asked).toHaveLength(2))
    expect(asked.map(({ sinceMs }) => sinceMs)).toEqual([0, 5])
    await eventually(() => expect(records.map(({ message }) => message)).toContain('b'))
    expect(records.map(({ message }) => message)).toEqual([
      'a',
      "its log can't be followed at the moment: the connection broke",
      'b',
    ])
  })
})
