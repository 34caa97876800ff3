import { describe, expect, it } from 'vitest'
import { BerthError, type ErrorCode } from '../../../orchestrator/domain/errors.ts'
import type { LogRecord } from '../../../orchestrator/domain/views.ts'
import { crashKind } from '../../../orchestrator/lifecycle/effects.ts'
import { createTelemetryObserver } from '../../../orchestrator/lifecycle/telemetry-observer.ts'
import { createEvents } from '../../../orchestrator/telemetry/events.ts'
import { createLogger } from '../../../orchestrator/telemetry/logger.ts'
import { createMetrics } from '../../../orchestrator/telemetry/metrics.ts'
import type { ModuleLogs } from '../../../orchestrator/telemetry/module-logs.ts'
import { FakeClock } from '../../support/fake-clock.ts'

function world() {
  const clock = new FakeClock()
  const events = createEvents(clock)
  const metrics = createMetrics()
  const noted: LogRecord[] = []
  const logs = { append: (_module: string, record: LogRecord) => noted.push(record) } as unknown as ModuleLogs
  const observer = createTelemetryObserver({
    events,
    logs,
    logger: createLogger({ level: 'silent' }),
    metrics,
    clock,
    replicaUp() {},
    replicaDown() {},
  })
  return { observer, events, metrics, noted }
}

describe('what telemetry makes of the life of a module', () => {
  it('a change of scale is an event with both numbers, a line in the log and a count', async () => {
    const { observer, events, metrics, noted } = world()
    observer.scaled('ocr', 1, 3, 'requests waited 2 s')
    observer.scaled('ocr', 3, 3, 'nothing')
    expect(events.recent()).toMatchObject([
      { type: 'scale', module: 'ocr', from: '1', to: '3', cause: 'requests waited 2 s' },
    ])
    expect(noted.map(({ message }) => message)).toEqual(['scaled from 1 to 3: requests waited 2 s'])
    expect(await metrics.expose()).toContain('berth_module_scalings_total{module="ocr",direction="up"} 1')
  })

  it('a crash counts under its kind and is in the log of the module', async () => {
    const { observer, metrics, noted } = world()
    observer.crashed('ocr', { id: 'ocr-0', generation: 2 }, 'Module ocr has ended: exit code 3', 'exited')
    expect(noted).toMatchObject([{ level: 'error', replica: 'ocr-0', message: 'Module ocr has ended: exit code 3' }])
    expect(await metrics.expose()).toContain('berth_module_restarts_total{module="ocr",cause="exited"} 1')
  })

  it.each<[Parameters<typeof crashKind>[0], ErrorCode, Record<string, unknown>, string]>([
    ['ready', 'OUT_OF_MEMORY', {}, 'out-of-memory'],
    ['starting', 'OUT_OF_MEMORY', {}, 'out-of-memory'],
    ['ready', 'INFERENCE_TIMEOUT', {}, 'hung'],
    ['loading', 'LOAD_TIMEOUT', {}, 'hung'],
    ['starting', 'START_TIMEOUT', {}, 'start-failed'],
    ['starting', 'WORKLOAD_EXITED', {}, 'start-failed'],
    ['ready', 'WORKLOAD_EXITED', { exitCode: 1 }, 'exited'],
    ['ready', 'WORKLOAD_EXITED', { removed: true }, 'removed'],
    ['idle', 'RUNNER_UNREACHABLE', {}, 'unreachable'],
  ])('a replica that was %s and ended with %s %o: %s', (from, code, details, kind) => {
    expect(crashKind(from, new BerthError(code, 'it ended', details))).toBe(kind)
  })
})
