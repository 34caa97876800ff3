import type { IncomingMessage, ServerResponse } from 'node:http'
import { readBody } from '../body.ts'
import type { RunnerContext } from '../context.ts'
import { RunnerError, toRunnerError } from '../errors.ts'
import { InferReply } from '../infer-reply.ts'
import { modelOf } from '../model-gate.ts'
import { callerLeft, sendError } from '../replies.ts'

/**
 * POST /infer: answers a stream of frames. The one hot path of the runner, so it works on Node's own request and response,
 * and the body goes to the worker as the bytes it came in.
 */
export function inferHandler(context: RunnerContext): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    infer(context, request, response).catch((error: unknown) => sendError(response, toRunnerError(error)))
  }
}

async function infer(context: RunnerContext, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { gate, supervisor } = context
  const body = await readBody(request, context.bodyLimit)
  const model = modelOf(body)
  if (supervisor.restarts > 0 && !supervisor.isLoaded(model)) throw notLoadedAgain(context.module.id, model)
  if (!gate.enter(model)) await gate.enterLater(model, callerLeft(response))
  try {
    const worker = supervisor.current ?? (await supervisor.ready(callerLeft(response)))
    const slot = worker.takeIdleSlot() ?? (await worker.openSlot())
    if (response.destroyed) {
      worker.giveBack(slot)
      gate.leave(model, false)
      return
    }
    slot.start(body, new InferReply(response, worker, slot, model, context))
  } catch (error) {
    gate.leave(model, false)
    throw error
  }
  context.memory.used()
}

/** The caller loaded it in a worker that is gone. To run it unloaded would only fail somewhere inside the module. */
function notLoadedAgain(module: string, model: string): RunnerError {
  const message = `The worker of module ${module} was started again, and model ${model} is not loaded in it yet.`
  return new RunnerError('WORKLOAD_EXITED', message, { module, model })
}
