import { protocolVersion } from '../../constants.ts'
import type { HealthAnswer } from '../../protocol.ts'
import type { RunnerApp, RunnerContext } from '../context.ts'
import { RunnerError } from '../errors.ts'

/** GET /health and /describe, and POST /call, which service modules do not have. None of them asks the worker. */
export function stateRoutes(app: RunnerApp, context: RunnerContext): void {
  const { supervisor, gate, module } = context

  app.get('/health', (): HealthAnswer => {
    const { failure } = supervisor
    return {
      protocol: protocolVersion,
      state: supervisor.state,
      models: [...supervisor.loaded],
      inflight: gate.inflight,
      ...(failure === undefined ? {} : { error: failure.toWire() }),
      workerRestarts: supervisor.restarts,
    }
  })

  app.get('/describe', () => ({ id: module.id, format: module.format, models: Object.keys(module.models) }))

  app.post('/call', () => {
    const message = `Module ${module.id} is a service module: it answers inferences and has nothing that can be called.`
    throw new RunnerError('ENGINE_UNSUPPORTED', message, { module: module.id })
  })
}
