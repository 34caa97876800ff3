import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Reply } from '../../plain-http/reply.ts'
import type { PlainRequest } from '../../plain-http/request.ts'
import { readBody } from '../body.ts'
import type { RunnerContext } from '../context.ts'
import { RunnerError, toRunnerError } from '../errors.ts'
import { InferReply } from '../infer-reply.ts'
import { modelOf } from '../model-gate.ts'
import { isTooDeep } from '../nesting.ts'
import { callerLeft, sendError } from '../replies.ts'

/**
 * POST /infer: answers a stream of frames. The one hot path of the runner: the body goes to the worker as the bytes it came
 * in, and a request that is plain (plain-http) never becomes one of Node's.
 */
export function inferHandler(context: RunnerContext): (request: IncomingMessage, response: ServerResponse) => void {
  return (request, response) => {
    readBody(request, context.bodyLimit)
      .then((body) => infer(context, body, response))
      .catch((error: unknown) => sendError(response, toRunnerError(error)))
  }
}

/** False: there is something to refuse, which `inferHandler` does. */
export function inferPlain(context: RunnerContext, { body }: PlainRequest, reply: Reply): boolean {
  if (body.length > context.bodyLimit || isTooDeep(body)) return false
  infer(context, [body], reply).catch((error: unknown) => sendError(reply, toRunnerError(error)))
  return true
}

async function infer(context: RunnerContext, body: readonly Buffer[], reply: Reply): Promise<void> {
  const { gate, supervisor } = context
  const model = modelOf(body)
  if (supervisor.restarts > 0 && !supervisor.isLoaded(model)) throw notLoadedAgain(context.module.id, model)
  if (!gate.enter(model)) await gate.enterLater(model, callerLeft(reply))
  try {
    const worker = supervisor.current ?? (await supervisor.ready(callerLeft(reply)))
    const slot = worker.takeIdleSlot() ?? (await worker.openSlot())
    if (reply.destroyed) {
      worker.giveBack(slot)
      gate.leave(model, false)
      return
    }
    slot.start(body, new InferReply(reply, worker, slot, model, context))
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
