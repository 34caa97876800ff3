import type { Telemetry } from '../../telemetry/telemetry.ts'
import type { RequestSignals } from '../request-signal.ts'
import type { Services } from '../services.ts'

/** What every file of routes is given. */
export interface RouteContext {
  readonly services: Services
  readonly telemetry: Pick<Telemetry, 'logger' | 'metrics' | 'events'>
  readonly signals: RequestSignals
}
