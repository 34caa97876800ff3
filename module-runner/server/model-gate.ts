import { RunnerError } from './errors.ts'

/**
 * Counts inferences per model. How many run at once is the orchestrator's business; but it counts a cancelled one as over
 * at once, while its generator may still compute until its next yield. Only then the next one waits here, so that a module
 * never computes more at once than it allows.
 */
interface Counts {
  running: number
  /** Cancelled, and not ended yet; these are among the running. */
  ending: number
  waiting: (() => void)[]
}

export class ModelGate {
  readonly #limitOf: (model: string) => number
  readonly #models = new Map<string, Counts>()
  #inflight = 0

  /** `limitOf`: how many inferences of a model may run at once (max_simul_users). */
  constructor(limitOf: (model: string) => number) {
    this.#limitOf = limitOf
  }

  get inflight(): number {
    return this.#inflight
  }

  /** Counts one in, unless it has to wait: then `enterLater` does. */
  enter(model: string): boolean {
    const counts = this.#counts(model)
    if (counts.ending > 0 && counts.running >= this.#limitOf(model)) return false
    counts.running += 1
    this.#inflight += 1
    return true
  }

  /** Rejects when the signal aborts. */
  async enterLater(model: string, signal: AbortSignal): Promise<void> {
    while (!this.enter(model)) await this.#change(model, signal)
  }

  /** Resolves when no cancelled inference of these models computes any more. Rejects when the signal aborts. */
  async settled(models: readonly string[], signal: AbortSignal): Promise<void> {
    for (const model of models) {
      while ((this.#models.get(model)?.ending ?? 0) > 0) await this.#change(model, signal)
    }
  }

  cancelled(model: string): void {
    this.#counts(model).ending += 1
  }

  leave(model: string, wasCancelled: boolean): void {
    const counts = this.#counts(model)
    counts.running -= 1
    this.#inflight -= 1
    if (wasCancelled) counts.ending -= 1
    if (counts.running === 0) this.#models.delete(model)
    if (counts.waiting.length === 0) return
    const waiting = counts.waiting
    counts.waiting = []
    for (const wake of waiting) wake()
  }

  #counts(model: string): Counts {
    let counts = this.#models.get(model)
    if (counts === undefined) {
      counts = { running: 0, ending: 0, waiting: [] }
      this.#models.set(model, counts)
    }
    return counts
  }

  #change(model: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const gone = () => reject(new RunnerError('CLIENT_CLOSED', 'The caller left.'))
      if (signal.aborted) return gone()
      signal.addEventListener('abort', gone, { once: true })
      this.#counts(model).waiting.push(() => {
        signal.removeEventListener('abort', gone)
        resolve()
      })
    })
  }
}

const start = Buffer.from('{"model":"')
const quote = 0x22
const backslash = 0x5c

/** The model that an inference's body names; without parsing it where `model` comes first, as the orchestrator writes it. */
export function modelOf(body: readonly Buffer[]): string {
  const [first] = body
  if (
    first !== undefined &&
    first.length > start.length &&
    first.compare(start, 0, start.length, 0, start.length) === 0
  ) {
    const end = first.indexOf(quote, start.length)
    const name = end === -1 ? undefined : first.subarray(start.length, end)
    if (name !== undefined && !name.includes(backslash)) return name.toString('utf8')
  }
  try {
    const { model } = JSON.parse(Buffer.concat(body).toString('utf8'))
    if (typeof model === 'string') return model
  } catch (error) {
    throw new RunnerError('REQUEST_INVALID', `The request is not JSON: ${error instanceof Error ? error.message : ''}`)
  }
  throw new RunnerError('REQUEST_INVALID', 'The request names no model.', { field: 'model' })
}
