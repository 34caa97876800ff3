import { setTimeout as delay } from 'node:timers/promises'
import type { Clock } from '../domain/clock.ts'
import { isJsonObject } from '../domain/json.ts'
import type { LogRecord } from '../domain/views.ts'
import type { Engine, LogLine } from '../engines/engine.ts'
import type { ModuleLogs } from '../telemetry/module-logs.ts'
import type { ReplicaRef } from './effects.ts'

/** Copies a workload's output into its module's log, for as long as it runs. */
export interface LogFollower {
  /** Follows on from the last line that the log has; following one workload twice does nothing. */
  follow(module: string, replica: ReplicaRef, workload: string): void
}

const levels = new Set<unknown>(['debug', 'info', 'warning', 'error', 'critical'])
const sources = new Set<unknown>(['module', 'runner', 'installer'])
/** Between two attempts to follow a workload that still runs. */
const againMs = 2_000

export function createLogFollower(engine: Engine, logs: ModuleLogs, clock: Clock, signal: AbortSignal): LogFollower {
  const followed = new Set<string>()

  /** The connection to the engine may break under a workload that goes on: then its output is taken up again. */
  async function copyWhileItRuns(module: string, replica: ReplicaRef, workload: string): Promise<void> {
    const origin = `${replica.id}#${replica.generation}`
    let told = ''
    // A workload that was adopted goes on where the earlier orchestrator stopped copying.
    let after = await logs.lastPosition(module, origin).catch(() => undefined)
    while (!signal.aborted) {
      try {
        const from = after === undefined ? {} : { after }
        for await (const line of engine.logs(workload, { follow: true, ...from, signal })) {
          const { position } = line
          const copied = position === undefined ? undefined : { workload: origin, position }
          logs.append(module, toRecord(line, replica.id, clock), copied)
          after = position ?? after
        }
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        if (!signal.aborted && reason !== told)
          logs.append(
            module,
            orchestratorRecord(`its log can't be followed at the moment: ${reason}`, replica.id, clock),
          )
        told = reason
      }
      if (!(await mayRun(workload))) return
      await delay(againMs, undefined, { signal, ref: false })
    }
  }

  /** True also while the engine can't say. */
  async function mayRun(workload: string): Promise<boolean> {
    const found = await engine.list().catch(() => undefined)
    return found === undefined || found.some(({ id, state }) => id === workload && state !== 'exited')
  }

  return {
    follow(module, replica, workload) {
      if (followed.has(workload) || signal.aborted) return
      followed.add(workload)
      copyWhileItRuns(module, replica, workload)
        .catch(() => {}) // only the signal's
        .finally(() => followed.delete(workload))
    },
  }
}

/** Lines of Berth's runner are LogOutput; anything else is what an image or a module wrote itself. */
export function toRecord(line: LogLine, replica: string, clock: Clock): LogRecord {
  const time = new Date(line.timeMs ?? clock.now()).toISOString()
  const parsed = parse(line.text)
  if (
    isJsonObject(parsed) &&
    typeof parsed.message === 'string' &&
    levels.has(parsed.level) &&
    sources.has(parsed.source)
  ) {
    return {
      time: typeof parsed.time === 'string' ? parsed.time : time,
      level: parsed.level as LogRecord['level'],
      source: parsed.source as LogRecord['source'],
      message: parsed.message,
      replica,
    }
  }
  return { time, level: line.stream === 'stderr' ? 'warning' : 'info', source: 'module', message: line.text, replica }
}

function orchestratorRecord(message: string, replica: string, clock: Clock): LogRecord {
  return { time: new Date(clock.now()).toISOString(), level: 'warning', source: 'orchestrator', message, replica }
}

function parse(text: string): unknown {
  if (!text.startsWith('{')) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
