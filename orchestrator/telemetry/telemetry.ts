/**
 * Telemetry: what Berth says about itself. Its own log on standard error, metrics, the logs of modules, and the events
 * that state changes make.
 */
import { join } from 'node:path'
import { type Clock, systemClock } from '../domain/clock.ts'
import { createEvents, type Events } from './events.ts'
import { createLogger, type Logger, type LoggerOptions } from './logger.ts'
import { createMetrics, type Metrics } from './metrics.ts'
import { createModuleLogs, type ModuleLogs } from './module-logs.ts'

export interface Telemetry {
  readonly logger: Logger
  readonly metrics: Metrics
  readonly moduleLogs: ModuleLogs
  readonly events: Events
  /** Writes what waits. */
  close(): Promise<void>
}

export interface TelemetryOptions {
  /** Module logs go to `<dataDirectory>/logs`. */
  readonly dataDirectory: string
  readonly logLevel: LoggerOptions['level']
  readonly output?: LoggerOptions['output']
  readonly clock?: Clock
}

export function createTelemetry(options: TelemetryOptions): Telemetry {
  const clock = options.clock ?? systemClock
  const logger = createLogger({
    level: options.logLevel,
    ...(options.output === undefined ? {} : { output: options.output }),
  })
  const moduleLogs = createModuleLogs({
    directory: join(options.dataDirectory, 'logs'),
    clock,
    onFailure: (module, error) => logger.error({ module, err: error }, 'The log of a module cannot be written'),
  })
  return {
    logger,
    metrics: createMetrics(),
    moduleLogs,
    events: createEvents(clock),
    close: () => moduleLogs.close(),
  }
}
