import { ndjson } from '../constants.ts'
import type { Reply } from '../plain-http/reply.ts'
import type { RunnerContext } from './context.ts'
import { isRecord, type RunnerError, statusOf } from './errors.ts'
import { errorLine, sendError, sendErrorLine } from './replies.ts'
import type { Slot, SlotOutput } from './worker/slot.ts'
import type { Worker } from './worker/worker.ts'

/**
 * One inference's answer. Headers go out with the first line, so that a failure before it keeps a true status; a caller
 * that leaves cancels the inference, or lets it run to its end where the module wants that.
 */
export class InferReply implements SlotOutput {
  readonly #response: Reply
  readonly #worker: Worker
  readonly #slot: Slot
  readonly #model: string
  readonly #context: RunnerContext
  #over = false
  /** The caller is slow, and one listener waits for it: a read may give many writes. */
  #awaitsDrain = false

  /** The caller's leaving is looked at from now on; the gate has counted this inference in. */
  constructor(response: Reply, worker: Worker, slot: Slot, model: string, context: RunnerContext) {
    this.#response = response
    this.#worker = worker
    this.#slot = slot
    this.#model = model
    this.#context = context
    response.on('close', () => {
      if (this.#over) return
      if (context.module.onDisconnect === 'cancel') this.#cancel()
      else slot.resume()
    })
  }

  write(bytes: Buffer | string, last: boolean): boolean {
    if (last) this.#leave()
    this.#context.memory.relayed(bytes.length)
    const response = this.#response
    if (response.destroyed) return true
    if (!response.headersSent) {
      if (last) {
        response.writeHead(200, { 'content-type': ndjson, 'content-length': Buffer.byteLength(bytes) })
        response.end(bytes)
        return true
      }
      response.writeHead(200, { 'content-type': ndjson })
    }
    if (last) {
      response.end(bytes)
      return true
    }
    if (response.write(bytes, 'latin1')) return true
    this.#resumeOnDrain()
    return false
  }

  #resumeOnDrain(): void {
    if (this.#awaitsDrain) return
    this.#awaitsDrain = true
    this.#response.once('drain', () => {
      this.#awaitsDrain = false
      if (!this.#over) this.#slot.resume()
    })
  }

  fail(line: Buffer): void {
    this.#leave()
    sendErrorLine(this.#response, statusOf(codeOf(line)), line)
  }

  broken(error: RunnerError, midLine: boolean): void {
    this.#leave()
    if (this.#response.headersSent) this.#response.end(`${midLine ? '\n' : ''}${errorLine(error)}`)
    else sendError(this.#response, error)
  }

  #cancel(): void {
    this.#over = true
    this.#context.gate.cancelled(this.#model)
    this.#worker.cancel(this.#slot, () => this.#context.gate.leave(this.#model, true))
  }

  #leave(): void {
    this.#over = true
    this.#context.gate.leave(this.#model, false)
  }
}

function codeOf(line: Buffer): string {
  try {
    const frame: unknown = JSON.parse(line.toString('utf8'))
    return isRecord(frame) && isRecord(frame.error) ? String(frame.error.code) : ''
  } catch {
    return ''
  }
}
