import { describe, expect, it, onTestFinished } from 'vitest'
import { systemClock } from '../../../orchestrator/domain/clock.ts'
import type { LogRecord } from '../../../orchestrator/domain/views.ts'
import type { Engine, LogLine, LogOptions, ObservedWorkload } from '../../../orchestrator/engines/engine.ts'
import { createLogFollower } from '../../../orchestrator/lifecycle/log-follower.ts'
import type { LogOrigin, ModuleLogs } from '../../../orchestrator/telemetry/module-logs.ts'
import { eventually } from '../../support/eventually.ts'

const line = (text: string, position: string): LogLine => ({ stream: 'stdout', text, position })

/** An engine whose connection breaks after each of these rounds of lines but the last, and a log in memory. */
function breakingEngine(rounds: readonly (readonly LogLine[])[], known: Readonly<Record<string, string>> = {}) {
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
  const positions = new Map(Object.entries(known))
  const logs = {
    append(_module: string, record: LogRecord, origin?: LogOrigin) {
      records.push(record)
      if (origin) positions.set(origin.workload, origin.position)
    },
    lastPosition: (_module: string, workload: string) => Promise.resolve(positions.get(workload)),
  } as unknown as ModuleLogs
  const stop = new AbortController()
  onTestFinished(() => stop.abort())
  return { asked, follower: createLogFollower(engine, logs, systemClock, stop.signal), records }
}

describe("a workload's output", () => {
  it('is taken up again where the connection broke, and left when the workload has ended', async () => {
    const { asked, follower, records } = breakingEngine([[line('a', '5')], [line('b', '9')]])
    follower.follow('mod', { id: 'mod-0', generation: 1 }, 'w')
    await eventually(() => expect(asked).toHaveLength(2))
    expect(asked.map(({ after }) => after)).toEqual([undefined, '5'])
    await eventually(() => expect(records.map(({ message }) => message)).toContain('b'))
    expect(records.map(({ message }) => message)).toEqual([
      'a',
      "its log can't be followed at the moment: the connection broke",
      'b',
    ])
  })

  it('of an adopted replica goes on after the last line that was copied of this generation', async () => {
    const { asked, follower } = breakingEngine([[]], { 'mod-0#1': 'old', 'mod-0#2': 'here', 'mod-1#2': 'other' })
    follower.follow('mod', { id: 'mod-0', generation: 2 }, 'w')
    await eventually(() => expect(asked.map(({ after }) => after)).toEqual(['here']))
  })
})
