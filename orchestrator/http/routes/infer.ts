import type { FastifyReply, FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import type { Reply } from '../../../module-runner/plain-http/reply.ts'
import { BerthError, toBerthError } from '../../domain/errors.ts'
import type { Json, JsonObject } from '../../domain/json.ts'
import { type Priority, priorities } from '../../domain/priority.ts'
import { aggregate } from '../../inference/aggregate.ts'
import type { Dispatcher, Inference } from '../../inference/dispatcher.ts'
import type { InferenceSink, InferenceTimings } from '../../inference/types.ts'
import type { App } from '../app.ts'
import { type Caller, mayUse, modelForbidden, priorityOf } from '../auth/authenticator.ts'
import { sendError } from '../errors.ts'
import { ReplyStream, serverTiming } from '../reply-stream.ts'
import { requestId } from '../request-id.ts'
import { errorAnswers } from '../schemas.ts'
import type { ModelsService } from '../services.ts'
import { createValidatorCompiler } from '../validation.ts'

const Config = Type.Record(Type.String(), Type.Unknown(), { description: 'Passed to the module as UserConfig.' })
const Parameters = Type.Record(Type.String(), Type.Unknown(), {
  description: 'Passed to the module as UserParameters.',
})

const AskedPriority = Type.Unsafe<Priority>({
  enum: [...priorities],
  description: "Who goes first where requests wait. At most the key's own, which is also the default.",
})

const InferBody = Type.Object(
  {
    config: Type.Optional(Config),
    parameters: Type.Optional(Parameters),
    conversation: Type.Optional(Type.Array(Type.Unknown(), { description: 'Messages: `{"role", "content"}`.' })),
    stream: Type.Optional(Type.Boolean({ default: true, description: 'false: one JSON answer.' })),
    priority: Type.Optional(AskedPriority),
  },
  { additionalProperties: false },
)

const RpcInferBody = Type.Object(
  {
    name: Type.String({ minLength: 1, description: 'The model.' }),
    userConfig: Type.Optional(Config),
    userParameters: Type.Optional(Parameters),
    stream: Type.Optional(Type.Boolean({ default: true })),
    priority: Type.Optional(AskedPriority),
  },
  { additionalProperties: false },
)

const description =
  'Answers a stream of frames, one JSON a line (NDJSON), or as SSE with `Accept: text/event-stream`: any number of `{"chunk":...}`, then `{"done":true,...}` or `{"error":...}`. With `"stream": false`: one JSON.'

const answers = {
  200: Type.Object(
    {
      response: Type.Object({
        text: Type.Optional(Type.String()),
        files: Type.Optional(Type.Array(Type.Unknown())),
        extra: Type.Optional(Parameters),
      }),
      warnings: Type.Array(Type.Unknown()),
      errors: Type.Array(Type.Unknown()),
      conversation: Type.Optional(Type.Array(Type.Unknown())),
    },
    {
      description:
        'With `"stream": false` this; otherwise a stream of frames, `application/x-ndjson` or `text/event-stream`.',
    },
  ),
  ...errorAnswers(
    'MODEL_NOT_FOUND',
    'MODULE_NOT_FOUND',
    'MODULE_DISABLED',
    'MODULE_BUSY',
    'REQUIREMENTS_FAILED',
    'LOAD_FAILED',
    'INFERENCE_FAILED',
    'WORKLOAD_EXITED',
    'OUT_OF_MEMORY',
    'SHUTTING_DOWN',
    'LOAD_TIMEOUT',
    'INFERENCE_TIMEOUT',
  ),
}

export interface InferOptions {
  readonly dispatcher: Dispatcher
  readonly models: Pick<ModelsService, 'resolve'>
}

/** The routes that stream inference; everything else of a request is checked before the dispatcher sees it. */
export function inferRoutes(app: App, { dispatcher, models }: InferOptions): void {
  app.post(
    '/api/models/:name/infer',
    {
      config: { access: 'infer' },
      schema: {
        summary: 'Stream an inference of a model',
        description,
        tags: ['inference'],
        params: Type.Object({ name: Type.String() }),
        body: InferBody,
        response: answers,
      },
    },
    (request, reply) => {
      checkModel(models, request.caller, request.params.name)
      answer(dispatcher, recipientOf(request, reply), asked(request.params.name, request.body))
    },
  )

  const isValid = createValidatorCompiler()({ schema: InferBody, method: 'POST', url: '', httpPart: 'body' })
  app.plainRoute({
    url: '/api/models/:name/infer',
    isValid: (body) => isValid(body) === true,
    handle({ parameter, body, accept, reply, id, caller, refuse }) {
      checkModel(models, caller, parameter)
      answer(
        dispatcher,
        {
          id,
          caller,
          sse: wantsEvents(accept),
          trailers: true,
          raw: reply,
          takeOver() {},
          refuse: (error, timings) => refuse(error, timed(timings)),
        },
        asked(parameter, body as Static<typeof InferBody>),
      )
    },
  })

  app.post(
    '/api/modules/:id/rpc/infer',
    {
      config: { access: 'infer' },
      schema: {
        summary: 'SERVICE_INFERENCE of a module, literally',
        description,
        tags: ['inference'],
        params: Type.Object({ id: Type.String() }),
        body: RpcInferBody,
        response: answers,
      },
    },
    (request, reply) => {
      const { body } = request
      checkModel(models, request.caller, body.name, request.params.id)
      answer(dispatcher, recipientOf(request, reply), {
        module: request.params.id,
        model: body.name,
        config: (body.userConfig ?? {}) as JsonObject,
        parameters: (body.userParameters ?? {}) as JsonObject,
        stream: body.stream ?? true,
        ...(body.priority === undefined ? {} : { priority: body.priority }),
      })
    },
  )
}

/** Of a key with models, only theirs: not what an explicit load named likewise in another module. */
function checkModel(models: InferOptions['models'], caller: Caller, name: string, id?: string): void {
  if (caller.key?.models === undefined) return
  const { model, module } = models.resolve(name)
  if (!mayUse(caller, name, model) || (id !== undefined && id !== module)) throw modelForbidden(caller, name)
}

interface Asked {
  readonly module?: string
  readonly model: string
  readonly config: JsonObject
  readonly parameters: JsonObject
  readonly conversation?: readonly Json[]
  readonly stream: boolean
  readonly priority?: Priority
}

function asked(model: string, body: Static<typeof InferBody>): Asked {
  return {
    model,
    config: (body.config ?? {}) as JsonObject,
    parameters: (body.parameters ?? {}) as JsonObject,
    ...(body.conversation === undefined ? {} : { conversation: body.conversation as Json[] }),
    stream: body.stream ?? true,
    ...(body.priority === undefined ? {} : { priority: body.priority }),
  }
}

/** Where an answer goes, whichever way its request has come. */
interface Recipient {
  /** Of the request. */
  readonly id: string
  readonly caller: Caller
  readonly sse: boolean
  /** The client understands trailers. */
  readonly trailers: boolean
  readonly raw: Reply
  /** From now on `raw` is written to. */
  takeOver(): void
  /** Answers with an error instead. */
  refuse(error: BerthError, timings: InferenceTimings | undefined): void
}

function recipientOf(request: FastifyRequest, reply: FastifyReply): Recipient {
  return {
    id: requestId(request),
    caller: request.caller,
    sse: wantsEvents(request.headers.accept ?? ''),
    trailers: request.raw.httpVersion !== '1.0',
    raw: reply.raw,
    takeOver: () => void reply.hijack(),
    refuse(error, timings) {
      if (reply.raw.destroyed) return
      if (reply.raw.headersSent) reply.raw.destroy()
      else sendError(reply.headers(timed(timings)), error)
    },
  }
}

function timed(timings: InferenceTimings | undefined): Record<string, string> {
  return timings === undefined ? {} : { 'server-timing': serverTiming(timings) }
}

function wantsEvents(accept: string): boolean {
  return accept.includes('text/event-stream')
}

function answer(dispatcher: Dispatcher, to: Recipient, { stream, priority, ...rest }: Asked): void {
  const { id, caller, raw } = to
  // Gone while its body was read: there is no `close` to come any more.
  if (raw.destroyed) return
  let inference: Inference | undefined
  const sink = stream ? streamSink(to, () => inference?.resume()) : wholeSink(to, () => inference?.cancel())
  // `close` without the answer's last byte: the client has gone, at whatever stage.
  raw.on('close', () => {
    if (!raw.writableFinished) inference?.cancel()
  })
  inference = dispatcher.dispatch(
    { ...rest, keyInfo: keyInfo(caller), caller: caller.id, priority: priorityOf(caller, priority), requestId: id },
    sink,
  )
}

/** What a module is told of the caller: the key's name, never its secret. */
function keyInfo({ key }: Caller): JsonObject {
  return key ? { Key: key.name, Groups: [...key.scopes] } : { Key: 'nokey', Groups: [] }
}

function streamSink(to: Recipient, resume: () => void): InferenceSink {
  const { id, caller, sse, trailers } = to
  const out = new ReplyStream(to.raw, { requestId: id, caller, sse, trailers, onDrain: resume })
  const begin = (timings: InferenceTimings | undefined) => {
    if (!out.started) to.takeOver()
    out.begin(timings)
  }
  return {
    queued(position) {
      begin(undefined)
      out.frame({ queued: { position } })
    },
    begin,
    data: (bytes) => out.data(bytes),
    end: () => out.end(),
    fail: (error, timings) => (out.started ? out.fail(error, timings) : to.refuse(error, timings)),
  }
}

/** The longest answer that is put together in memory; a longer one has to be streamed. */
const longestWholeBytes = 256 * 1024 * 1024

/** Collects the stream and answers once. */
function wholeSink(to: Recipient, cancel: () => void): InferenceSink {
  const parts: Buffer[] = []
  let bytesSoFar = 0
  let timings: InferenceTimings | undefined
  return {
    queued() {},
    begin(told) {
      timings = told
    },
    data(bytes) {
      parts.push(bytes)
      bytesSoFar += bytes.length
      if (bytesSoFar > longestWholeBytes) {
        cancel()
        to.refuse(tooLongForOne(), timings)
      }
      return true
    },
    end() {
      let whole: ReturnType<typeof aggregate>
      try {
        whole = aggregate(Buffer.concat(parts).toString('utf8').split('\n'))
      } catch (error) {
        return to.refuse(toBerthError(error), timings)
      }
      if ('error' in whole) return to.refuse(whole.error, timings)
      const text = JSON.stringify(whole)
      to.takeOver()
      to.raw.writeHead(200, {
        'content-type': 'application/json; charset=utf-8',
        'content-length': Buffer.byteLength(text),
        'x-request-id': to.id,
        ...timed(timings),
      })
      to.raw.end(text)
    },
    fail: (error, told) => to.refuse(error, told),
  }
}

function tooLongForOne(): BerthError {
  const message = `The answer is longer than ${longestWholeBytes} bytes, too long for one piece.`
  return new BerthError('INFERENCE_FAILED', message, { field: 'stream', remedy: 'Leave out `"stream": false`.' })
}
