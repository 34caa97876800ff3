import { protocolVersion } from '../../constants.ts'
import type { HealthAnswer } from '../../protocol.ts'
import type { RunnerContext } from '../context.ts'
import { RunnerError, shuttingDown } from '../errors.ts'
import type { Routes } from '../router.ts'

/** GET /health and /describe, and POST /call, which service modules do not have. None of them asks the worker. */
export function stateRoutes({ supervisor, gate, module, gpuMemory }: RunnerContext, stopping: () => boolean): Routes {
  function health(): HealthAnswer {
    const failure = stopping() ? shuttingDown(module.id) : supervisor.failure
    const measured = gpuMemory.read()
    return {
      protocol: protocolVersion,
      // One that ends takes nothing new: whoever asks has to turn to another.
      state: stopping() ? 'failed' : supervisor.state,
      models: [...supervisor.loaded],
      inflight: gate.inflight,
      ...(failure === undefined ? {} : { error: failure.toWire() }),
      workerRestarts: supervisor.restarts,
      ...(measured === undefined ? {} : { gpuMemory: measured }),
    }
  }

  return {
    'GET /health': health,
    'GET /describe': () => ({ id: module.id, format: module.format, models: Object.keys(module.models) }),
    'POST /call': ({ request }) => {
      request.resume()
      const message = `Module ${module.id} is a service module: it answers inferences and has nothing that can be called.`
      throw new RunnerError('ENGINE_UNSUPPORTED', message, { module: module.id })
    },
  }
}
