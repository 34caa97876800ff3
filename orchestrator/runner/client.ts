import type Type from 'typebox'
import { Compile } from 'typebox/compile'
import { Pool } from 'undici'
import { type GpuMemoryAnswer, HealthAnswer, LoadAnswer, OffloadAnswer } from '../../module-runner/protocol.ts'
import { BerthError, fromModuleError } from '../domain/errors.ts'
import { isJsonObject, type JsonObject } from '../domain/json.ts'
import { CallChannel, type CallHandler } from './call-channel.ts'
import { Connections } from './connections.ts'
import type { RunnerEndpoint } from './endpoint.ts'
import { refusedToken, unreachable } from './errors.ts'
import { startInfer } from './infer-call.ts'
import type { InferCall, InferHandlers, InferLimits } from './inference.ts'

export type { CallHandler } from './call-channel.ts'
export type { RunnerEndpoint } from './endpoint.ts'
export type { InferCall, InferHandlers, InferLimits } from './inference.ts'
export type { Ending } from './last-line.ts'

/** Client of the runner protocol: one per live replica, with a pool of kept-alive connections. */
export interface RunnerClient {
  health(signal: AbortSignal): Promise<RunnerHealth>
  /** Rejects with the module's own error (LOAD_FAILED and its like), or RUNNER_UNREACHABLE, RUNNER_PROTOCOL. */
  load(models: Readonly<Record<string, JsonObject>>, signal: AbortSignal): Promise<readonly string[]>
  offload(models: readonly string[], signal: AbortSignal): Promise<readonly string[]>
  /** Starts one inference; `body` is an InferRequest as JSON text. */
  infer(body: string, requestId: string, limits: InferLimits, handlers: InferHandlers): InferCall
  /** Reads the module's outgoing calls until the signal aborts; reconnects by itself. */
  calls(handler: CallHandler, signal: AbortSignal): void
  close(): void
}

export interface RunnerHealth {
  readonly state: 'starting' | 'idle' | 'ready' | 'failed'
  readonly models: readonly string[]
  readonly error?: BerthError
  readonly gpuMemory?: GpuMemoryAnswer
}

export interface RunnerClientOptions {
  readonly module: string
  readonly endpoint: RunnerEndpoint
  readonly token: string
  /** An image that other people wrote: its frames are read and wrapped before they go on. */
  readonly foreign: boolean
}

/** An answer other than a stream is small: more than this is no answer of the protocol. */
const longestAnswerBytes = 16 * 1024 * 1024

const checks = { health: Compile(HealthAnswer), load: Compile(LoadAnswer), offload: Compile(OffloadAnswer) }
type Schema = Type.TSchema

export function createRunnerClient(options: RunnerClientOptions): RunnerClient {
  const { module, endpoint, token } = options
  const pool = new Pool(
    endpoint.kind === 'tcp' ? `http://${hostPart(endpoint.host)}:${endpoint.port}` : 'http://runner',
    {
      ...(endpoint.kind === 'unix'
        ? { connect: { socketPath: endpoint.path, timeout: 5_000 } }
        : { connect: { timeout: 5_000 } }),
      pipelining: 1,
      keepAliveTimeout: 60_000,
      keepAliveMaxTimeout: 600_000,
      headersTimeout: 0,
      bodyTimeout: 0,
    },
  )
  const authorization = `Bearer ${token}`
  const host = endpoint.kind === 'tcp' ? `${hostPart(endpoint.host)}:${endpoint.port}` : 'runner'
  const connections = new Connections(
    endpoint,
    `POST /infer HTTP/1.1\r\nhost: ${host}\r\nauthorization: ${authorization}\r\ncontent-type: application/json\r\n`,
  )

  /** One small JSON question. A `failure` code names what an error body without a known code becomes. */
  async function ask<T extends Schema>(
    method: 'GET' | 'POST',
    path: string,
    body: unknown,
    check: ReturnType<typeof Compile<T>>,
    signal: AbortSignal,
  ): Promise<Type.Static<T>> {
    let status: number
    let text: string
    try {
      const answer = await pool.request({
        method,
        path,
        headers: { authorization, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal,
      })
      status = answer.statusCode
      text = await readBounded(answer.body, module)
    } catch (error) {
      if (error instanceof BerthError) throw error
      if (signal.aborted && signal.reason instanceof BerthError) throw signal.reason
      throw unreachable(module, error)
    }
    const parsed = parseJson(text)
    if (status !== 200) {
      if (status === 401) throw refusedToken(module)
      throw refused(module, `${method} ${path}`, status, parsed)
    }
    if (!check.Check(parsed)) {
      const [first] = check.Errors(parsed)
      throw new BerthError(
        'RUNNER_PROTOCOL',
        `Module ${module} answered ${method} ${path} with something that is not protocol 1 (${first?.instancePath || '/'}: ${first?.message ?? 'not JSON'}).`,
        { module },
      )
    }
    return parsed as Type.Static<T>
  }

  return {
    async health(signal) {
      const { state, models, error, gpuMemory } = await ask('GET', '/health', undefined, checks.health, signal)
      return {
        state,
        models,
        ...(error ? { error: fromModuleError({ error }, 'LOAD_FAILED', { module }) } : {}),
        ...(gpuMemory ? { gpuMemory } : {}),
      }
    },
    async load(models, signal) {
      return (await ask('POST', '/load', { models }, checks.load, signal)).loaded
    },
    async offload(models, signal) {
      return (await ask('POST', '/offload', { models }, checks.offload, signal)).offloaded
    },
    infer: (body, requestId, limits, handlers) =>
      startInfer({ connections, module, foreign: options.foreign }, body, requestId, limits, handlers),
    calls(handler, signal) {
      new CallChannel(pool, authorization, handler).run(signal)
    },
    close() {
      connections.close()
      pool.destroy().catch(() => {})
    },
  }
}

/** An error body of the protocol keeps its code. Without one: 5xx may pass (a server that boots), the rest is another protocol. */
function refused(module: string, call: string, status: number, body: unknown): BerthError {
  if (isJsonObject(body) && isJsonObject(body.error)) return fromModuleError(body, 'LOAD_FAILED', { module })
  const code = status >= 500 ? 'LOAD_FAILED' : 'RUNNER_PROTOCOL'
  return new BerthError(code, `Module ${module} answered ${call} with ${status} and no error body of the protocol.`, {
    module,
  })
}

function hostPart(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}

async function readBounded(body: AsyncIterable<Buffer>, module: string): Promise<string> {
  const parts: Buffer[] = []
  let size = 0
  for await (const part of body) {
    size += part.length
    if (size > longestAnswerBytes)
      throw new BerthError('RUNNER_PROTOCOL', `The answer of module ${module} is far too long for the protocol.`, {
        module,
      })
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
