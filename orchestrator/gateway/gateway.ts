import type { CallResult, OutgoingCall } from '../../module-runner/protocol.ts'
import { errorFor } from '../domain/error-visibility.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import { isJsonObject, type Json, type JsonObject } from '../domain/json.ts'
import type { Dispatcher } from '../inference/dispatcher.ts'
import type { CallHandler } from '../runner/client.ts'
import { collectFrames } from './frame-queue.ts'

/**
 * Calls from module to module (`services_manager`): read from the channel that the orchestrator opened to the caller,
 * checked here against the caller's grants, carried out like any other request.
 */
export interface GatewayOptions {
  readonly dispatcher: Dispatcher
  readonly models: GatewayModels
}

export interface GatewayModels {
  /** Throws MODEL_NOT_FOUND or MODULE_NOT_FOUND. */
  find(name: string): { readonly model: string; readonly configuration: JsonObject }
  load(name: string, options: { readonly caller: string; readonly signal: AbortSignal }): Promise<void>
  offload(name: string, signal: AbortSignal): Promise<void>
  installed(module: string): boolean
}

/** The handler for one module's channel; `granted` are the models that its manifest's `calls` names. */
export function createCallHandler(options: GatewayOptions, module: string, granted: readonly string[]): CallHandler {
  const { dispatcher, models } = options
  const caller = `module:${module}`

  function check(name: string | undefined): string {
    if (name === undefined)
      throw new BerthError('REQUEST_INVALID', `Module ${module} named no model in a call.`, { module })
    if (granted.includes(name)) return name
    const message = `Module ${module} may not use model ${name}; grant it with calls: [${[...granted, name].join(', ')}] in its module.yaml.`
    throw new BerthError('FORBIDDEN', message, { module, model: name, file: 'module.yaml', field: 'calls' })
  }

  async function value(call: OutgoingCall, signal: AbortSignal): Promise<unknown> {
    switch (call.kind) {
      case 'load':
        for (const name of (call.names ?? []).map(check)) await models.load(name, { caller, signal })
        return null
      case 'offload':
        for (const name of (call.names ?? []).map(check)) await models.offload(name, signal)
        return null
      case 'configuration':
        return withoutPrivate(models.find(check(call.model)).configuration)
      case 'installed':
        return (call.names ?? []).every((name) => models.installed(name))
      default:
        throw new BerthError('REQUEST_INVALID', `Module ${module} made a call of an unknown kind.`, { module })
    }
  }

  return async function* handle(call, signal): AsyncGenerator<CallResult> {
    try {
      if (call.kind === 'infer') {
        for await (const frame of infer(dispatcher, module, check(call.model), call, signal)) {
          yield 'error' in frame ? { error: errorFor(undefined, frame.error) } : frame
        }
      } else yield { done: true, value: await value(call, signal) }
    } catch (error) {
      yield { error: errorFor(undefined, toBerthError(error).toBody()) }
    }
  }
}

/** A prompt is what InferenceModel was given: a conversation, an object with one, or a text. */
function infer(
  dispatcher: Dispatcher,
  module: string,
  model: string,
  call: OutgoingCall,
  signal: AbortSignal,
): AsyncIterable<CallResult> {
  const parameters = (call.parameters ?? {}) as JsonObject
  return collectFrames(signal, (sink) =>
    dispatcher.dispatch(
      {
        model,
        config: {},
        parameters,
        conversation: conversationOf(call.prompt as Json | undefined),
        keyInfo: { Key: `module:${module}`, Groups: [] },
        caller: `module:${module}`,
        priority: 'normal',
        requestId: `${module}-${call.id}`,
      },
      sink,
    ),
  )
}

function conversationOf(prompt: Json | undefined): readonly Json[] {
  if (Array.isArray(prompt)) return prompt as readonly Json[]
  if (isJsonObject(prompt) && Array.isArray(prompt.conversation)) return prompt.conversation as readonly Json[]
  return prompt === undefined || prompt === null ? [] : [{ role: 'user', content: prompt }]
}

function withoutPrivate(configuration: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(configuration).filter(([key]) => !key.startsWith('_')))
}
