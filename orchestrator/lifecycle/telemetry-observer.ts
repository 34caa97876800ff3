import type { Clock } from '../domain/clock.ts'
import type { LogRecord } from '../domain/views.ts'
import type { Events } from '../telemetry/events.ts'
import type { Logger } from '../telemetry/logger.ts'
import type { Metrics } from '../telemetry/metrics.ts'
import type { ModuleLogs } from '../telemetry/module-logs.ts'
import type { LifecycleObserver, ReplicaRef } from './effects.ts'

/** Makes every move of every replica visible: as an event, in the module's log, in Berth's log and in the metrics. */
export interface TelemetryObserverOptions {
  readonly events: Events
  readonly logs: ModuleLogs
  readonly logger: Logger
  readonly metrics: Metrics
  readonly clock: Clock
  readonly replicaUp: LifecycleObserver['replicaUp']
  readonly replicaDown: LifecycleObserver['replicaDown']
}

export function createTelemetryObserver(options: TelemetryObserverOptions): LifecycleObserver {
  const { events, logs, logger, metrics, clock } = options

  function note(module: string, level: LogRecord['level'], message: string, replica?: ReplicaRef): void {
    const time = new Date(clock.now()).toISOString()
    logs.append(module, { time, level, source: 'orchestrator', message, ...(replica ? { replica: replica.id } : {}) })
  }

  /** What each module is being prepared with: told when it begins and when it is something else, not line by line. */
  const preparing = new Map<string, string>()

  return {
    moved(module, replica, from, to, cause) {
      events.publish({ type: 'replica', module, replica: replica.id, from, to, cause })
      note(
        module,
        to === 'failed' ? 'error' : 'info',
        `${replica.id} generation ${replica.generation}: ${from} -> ${to}: ${cause}`,
        replica,
      )
      logger[to === 'failed' ? 'warn' : 'info'](
        { module, replica: replica.id, generation: replica.generation, from, to },
        cause,
      )
    },
    preparing(module, progress) {
      const { phase, environmentKey, message } = progress
      const step = `${phase} ${environmentKey ?? ''}`
      if (preparing.get(module) !== step) {
        preparing.set(module, step)
        events.publish({ type: 'environment', module, to: 'preparing', cause: message })
      }
      if (progress.line === undefined) return
      const time = new Date(clock.now()).toISOString()
      logs.append(module, { time, level: 'info', source: 'installer', message: progress.line })
    },
    prepared(module, outcome, durationMs, cause) {
      preparing.delete(module)
      events.publish({ type: 'environment', module, to: outcome, cause })
      metrics.environmentInstalled(module, outcome === 'ready' ? 'ok' : 'failed', durationMs)
      note(module, outcome === 'failed' ? 'error' : 'info', `environment ${outcome}: ${cause}`)
      logger[outcome === 'failed' ? 'warn' : 'info']({ module, durationMs }, `environment ${outcome}: ${cause}`)
    },
    replicaUp: options.replicaUp,
    replicaDown: options.replicaDown,
    crashed(module, replica, cause, kind) {
      metrics.restarted(module, kind)
      note(module, 'error', cause, replica)
    },
    coldStart: metrics.coldStart,
    admitted: metrics.waited,
    rejected: metrics.rejected,
    adopted(module, replica, ms) {
      metrics.adopted(module, ms)
      logger.info({ module, replica: replica.id, generation: replica.generation, ms: Math.round(ms) }, 'adopted')
    },
    idled: metrics.idled,
    wayBack: metrics.wayBack,
    scaled(module, from, to, cause) {
      if (from === to) return
      metrics.scaled(module, to > from ? 'up' : 'down')
      events.publish({ type: 'scale', module, from: String(from), to: String(to), cause })
      note(module, 'info', `scaled from ${from} to ${to}: ${cause}`)
      logger.info({ module, from, to }, cause)
    },
  }
}
