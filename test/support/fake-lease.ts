import type { BerthError } from '../../orchestrator/domain/errors.ts'
import type { ModuleManifest } from '../../orchestrator/domain/manifest.ts'
import type { ModelRoute } from '../../orchestrator/inference/types.ts'
import type { Lease, LeaseOutcome, WaitOptions } from '../../orchestrator/lifecycle/lease.ts'
import type { Ending, InferHandlers, InferLimits, RunnerClient } from '../../orchestrator/runner/client.ts'
import { testDefinition } from './definitions.ts'

/** A route to a model whose lease and whose runner do what the test says, and that counts what was given back. */
export class FakeRoute implements ModelRoute {
  readonly module = 'mod'
  readonly model = 'm'
  readonly waiting: Waiting[] = []
  readonly calls: FakeCall[] = []
  readonly released: (LeaseOutcome | undefined)[] = []
  readonly manifest: Partial<ModuleManifest>
  /** Set: a lease is granted without waiting. */
  free = false
  waited = { startMs: 0, loadMs: 0 }

  constructor(manifest: Partial<ModuleManifest> = {}) {
    this.manifest = manifest
  }

  acquireNow(): Lease | undefined {
    return this.free ? this.#lease() : undefined
  }

  acquire(options: Omit<WaitOptions, 'model' | 'maxInflight'>): Promise<Lease> {
    return new Promise((resolve, reject) => {
      options.signal.addEventListener('abort', () => reject(options.signal.reason), { once: true })
      this.waiting.push({ ...options, grant: () => resolve(this.#lease()), reject })
    })
  }

  #lease(): Lease {
    return {
      module: this.module,
      replica: 'mod-0',
      generation: 1,
      model: this.model,
      client: { infer: this.#infer } as unknown as RunnerClient,
      definition: testDefinition({ manifest: this.manifest }),
      waited: this.waited,
      release: (outcome) => this.released.push(outcome),
    }
  }

  readonly #infer: RunnerClient['infer'] = (body, requestId, limits, handlers) => {
    const call = new FakeCall(body, requestId, limits, handlers)
    this.calls.push(call)
    return call
  }
}

interface Waiting extends Omit<WaitOptions, 'model' | 'maxInflight'> {
  grant(): void
  reject(error: BerthError): void
}

/** One inference on the runner that is not there. */
export class FakeCall {
  readonly body: string
  readonly requestId: string
  readonly limits: InferLimits
  readonly #handlers: InferHandlers
  cancelled = 0
  resumed = 0

  constructor(body: string, requestId: string, limits: InferLimits, handlers: InferHandlers) {
    this.body = body
    this.requestId = requestId
    this.limits = limits
    this.#handlers = handlers
  }

  cancel(): void {
    this.cancelled += 1
  }

  resume(): void {
    this.resumed += 1
  }

  /** Answers whether more is wanted. */
  send(text: string | Buffer): boolean {
    return this.#handlers.onData(Buffer.from(text))
  }

  end(ending: Ending = { kind: 'done' }): void {
    this.#handlers.onEnd(ending)
  }

  fail(error: BerthError): void {
    this.#handlers.onError(error)
  }
}

export const chunkLine = (text: string): string =>
  `{"chunk":{"response":{"text":${JSON.stringify(text)}},"warnings":[],"errors":[]}}\n`
export const doneLine = '{"done":true}\n'
