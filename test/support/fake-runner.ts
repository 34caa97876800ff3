import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import {
  type CallResult,
  type ChunkFrame,
  type HealthAnswer,
  type InferRequest,
  ndjson,
  type OutgoingCall,
  type RunnerState,
  type StreamFrame,
} from '../../module-runner/protocol.ts'
import { BerthError, toBerthError } from '../../orchestrator/domain/errors.ts'
import { isJsonObject, type JsonObject } from '../../orchestrator/domain/json.ts'
import type { Endpoint } from '../../orchestrator/engines/engine.ts'

/**
 * Runner protocol 1 over a Unix socket in this process, with a scripted module behind it: for tests of whatever talks
 * to runners. Nothing in it waits by the clock; a script that wants a delay awaits a promise that the test resolves.
 */
export interface RunnerScript {
  /** The module's import: state `starting` until it resolves, `failed` when it rejects. */
  readonly importModule?: () => Promise<void>
  /** Rejects to fail the load: a BerthError keeps its code, anything else is LOAD_FAILED. */
  readonly load?: (models: Readonly<Record<string, JsonObject>>) => Promise<void>
  readonly offload?: (models: readonly string[]) => Promise<void>
  /** Chunks of one inference: what a module yields. Throwing before the first is a true status, later an error frame. */
  readonly infer?: (request: InferRequest, signal: AbortSignal) => AsyncIterable<ModuleYield>
  /** Appended to the terminal `done` frame. */
  readonly conversation?: (request: InferRequest) => readonly unknown[] | undefined
}

export interface ModuleYield {
  readonly text?: string
  readonly files?: readonly unknown[]
  readonly extra?: Record<string, unknown>
  readonly warnings?: readonly unknown[]
  readonly errors?: readonly unknown[]
}

export interface FakeRunnerOptions {
  /** Path of the Unix socket to listen on. */
  readonly socket: string
  readonly token?: string
  readonly script?: RunnerScript
  readonly onLog?: (line: string) => void
}

/** One request as it came in, oldest first in `FakeRunner.requests`. */
export interface SeenRequest {
  readonly path: string
  readonly body: unknown
}

export class FakeRunner {
  readonly endpoint: Endpoint
  readonly requests: SeenRequest[] = []
  readonly #server: Server
  readonly #script: RunnerScript
  readonly #token: string | undefined
  readonly #log: (line: string) => void
  readonly #loaded = new Set<string>()
  readonly #cancels = new Set<AbortController>()
  readonly #channels = new Set<ServerResponse>()
  readonly #waitingCalls: OutgoingCall[] = []
  readonly #results = new Map<string, (result: CallResult | undefined) => void>()
  #state: RunnerState = 'starting'
  #error: BerthError | undefined
  #inflight = 0
  #workerRestarts = 0

  private constructor(options: FakeRunnerOptions) {
    this.endpoint = { kind: 'unix', path: options.socket }
    this.#script = options.script ?? {}
    this.#token = options.token
    this.#log = options.onLog ?? (() => undefined)
    this.#server = createServer((request, response) => void this.#answer(request, response))
  }

  /** Resolves once the socket answers. */
  static async listen(options: FakeRunnerOptions): Promise<FakeRunner> {
    const runner = new FakeRunner(options)
    await new Promise<void>((resolve, reject) => {
      runner.#server.once('error', reject)
      runner.#server.listen(options.socket, resolve)
    })
    void runner.#import()
    return runner
  }

  get loaded(): readonly string[] {
    return [...this.#loaded]
  }

  get inflight(): number {
    return this.#inflight
  }

  /** The runner is gone this instant: every connection breaks without a terminal frame. */
  crash(): Promise<void> {
    return this.#close()
  }

  /** SIGTERM: offloads what is loaded and ends. */
  async terminate(): Promise<void> {
    if (this.#loaded.size > 0) await this.#script.offload?.([...this.#loaded])
    await this.#close()
  }

  /** The worker died and was replaced: inferences fail with `error`, models are no longer loaded. */
  loseWorker(error = new BerthError('WORKLOAD_EXITED', 'The worker was killed by SIGKILL')): void {
    this.#workerRestarts += 1
    this.#loaded.clear()
    if (this.#state === 'ready') this.#state = 'idle'
    for (const cancel of this.#cancels) cancel.abort(error)
  }

  /** The module asks for something through services_manager; yields what the orchestrator posts back. */
  async *call(call: OutgoingCall): AsyncIterable<CallResult> {
    const arrived: (CallResult | undefined)[] = []
    let wake: () => void = () => undefined
    this.#results.set(call.id, (result) => {
      arrived.push(result)
      wake()
    })
    this.#waitingCalls.push(call)
    this.#sendCalls()
    try {
      for (;;) {
        const result = arrived.shift()
        if (result !== undefined) {
          yield result
          if ('done' in result || 'error' in result) return
        } else {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
      }
    } finally {
      this.#results.delete(call.id)
    }
  }

  async #import(): Promise<void> {
    try {
      await this.#script.importModule?.()
      this.#state = 'idle'
    } catch (error) {
      this.#error = asModuleError(error, 'LOAD_FAILED')
      this.#state = 'failed'
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '/'
    try {
      if (path === '/health') return sendJson(response, 200, this.#health())
      if (this.#token !== undefined && request.headers.authorization !== `Bearer ${this.#token}`) {
        throw new BerthError('UNAUTHORIZED', 'The token is wrong')
      }
      if (path === '/calls') return this.#openChannel(response)
      if (path.startsWith('/calls/')) return await this.#takeResults(path.slice('/calls/'.length), request, response)
      const body = await readJson(request)
      this.requests.push({ path, body })
      if (path === '/load') return sendJson(response, 200, { loaded: await this.#load(body) })
      if (path === '/offload') return sendJson(response, 200, { offloaded: await this.#offload(body) })
      if (path === '/infer') return await this.#infer(body as unknown as InferRequest, response)
      throw new BerthError('ENGINE_UNSUPPORTED', `The fake runner has no ${path}`)
    } catch (error) {
      const failure = toBerthError(error)
      if (!response.headersSent && !response.destroyed) sendJson(response, failure.status, { error: failure.toBody() })
    }
  }

  #health(): HealthAnswer {
    return {
      protocol: 1,
      state: this.#state,
      models: this.loaded.slice(),
      inflight: this.#inflight,
      workerRestarts: this.#workerRestarts,
      ...(this.#error === undefined ? {} : { error: this.#error.toBody() }),
    }
  }

  async #load(body: JsonObject): Promise<string[]> {
    if (this.#error !== undefined) throw this.#error
    const models = (body.models ?? {}) as Record<string, JsonObject>
    try {
      await this.#script.load?.(models)
    } catch (error) {
      throw asModuleError(error, 'LOAD_FAILED')
    }
    for (const name of Object.keys(models)) this.#loaded.add(name)
    this.#state = 'ready'
    return Object.keys(models)
  }

  async #offload(body: JsonObject): Promise<string[]> {
    const names = ((body.models ?? []) as string[]).filter((name) => this.#loaded.has(name))
    if (names.length > 0) await this.#script.offload?.(names)
    for (const name of names) this.#loaded.delete(name)
    if (this.#loaded.size === 0) this.#state = 'idle'
    return names
  }

  async #infer(request: InferRequest, response: ServerResponse): Promise<void> {
    const cancel = new AbortController()
    this.#cancels.add(cancel)
    this.#inflight += 1
    response.on('close', () => cancel.abort())
    const send = (frame: StreamFrame): void => {
      if (!response.headersSent) response.writeHead(200, { 'content-type': ndjson })
      response.write(`${JSON.stringify(frame)}\n`)
    }
    try {
      const yields = (this.#script.infer ?? echo)(request, cancel.signal)
      for await (const part of yields) {
        if (cancel.signal.aborted) break
        send(chunkFrame(part))
      }
      if (cancel.signal.aborted) throw cancel.signal.reason
      const conversation = this.#script.conversation?.(request)
      send({ done: true, ...(conversation === undefined ? {} : { conversation }) })
    } catch (error) {
      const failure = asModuleError(error, 'INFERENCE_FAILED')
      if (!response.headersSent) throw failure
      send({ error: failure.toBody() })
    } finally {
      this.#cancels.delete(cancel)
      this.#inflight -= 1
      if (response.headersSent) response.end()
    }
  }

  #openChannel(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': ndjson })
    response.flushHeaders()
    this.#channels.add(response)
    response.on('close', () => this.#channels.delete(response))
    this.#sendCalls()
  }

  #sendCalls(): void {
    const [channel] = this.#channels
    if (channel === undefined) return
    for (const call of this.#waitingCalls.splice(0)) channel.write(`${JSON.stringify(call)}\n`)
  }

  async #takeResults(id: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    let rest = ''
    for await (const part of request.setEncoding('utf8')) {
      const lines = (rest + part).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines.filter((each) => each !== '')) {
        const deliver = this.#results.get(id)
        if (deliver === undefined) return sendJson(response, 410, {})
        deliver(JSON.parse(line) as CallResult)
      }
    }
    sendJson(response, 200, {})
  }

  async #close(): Promise<void> {
    this.#log('runner ends')
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    this.#server.closeAllConnections()
    await closed
  }
}

async function* echo(request: InferRequest): AsyncIterable<ModuleYield> {
  yield { text: JSON.stringify(request.parameters) }
}

function chunkFrame(part: ModuleYield): ChunkFrame {
  const { warnings = [], errors = [], ...response } = part
  return { chunk: { response, warnings, errors } }
}

function asModuleError(error: unknown, code: 'LOAD_FAILED' | 'INFERENCE_FAILED'): BerthError {
  if (error instanceof BerthError) return new BerthError(error.code, error.message, error.details, { origin: 'module' })
  const message = error instanceof Error ? error.message : String(error)
  return new BerthError(code, message, {}, { origin: 'module' })
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}

async function readJson(request: IncomingMessage): Promise<JsonObject> {
  const parts: Buffer[] = []
  for await (const part of request) parts.push(part)
  const value: unknown = JSON.parse(Buffer.concat(parts).toString('utf8') || '{}')
  return isJsonObject(value) ? value : {}
}
