import type { OutgoingCall } from '../protocol.ts'
import { RunnerError } from './errors.ts'

/**
 * Outgoing calls of the module (services_manager): queued until the orchestrator's channel takes them, then open until
 * their result has come. Nothing here waits for ever: a call that no channel takes fails within seconds.
 */
export interface CallSink {
  /** One line, for the orchestrator. */
  send(call: OutgoingCall): void
  close(): void
}

/** Where results go: the worker of the moment. */
export interface ResultSink {
  /** `frame` is a CallResult as JSON text. False: the worker is slow, wait for `onDrain`. */
  sendResult(call: string, frame: string): boolean
  onDrain(callback: () => void): void
}

interface Open {
  sent: boolean
  /** A result is being posted. */
  answering: boolean
  /** Results that the worker has been sent and the module has not taken. */
  onTheWay: number
  more: (() => void) | undefined
  readonly limit: NodeJS.Timeout
  readonly abandon: AbortController
}

const mostCalls = 256
const noChannelMs = 5_000
/** As frames.py asks: so many results of one call wait in the worker at most. */
const mostOnTheWay = 64

export class CallBook {
  readonly #module: string
  readonly #worker: () => ResultSink | undefined
  readonly #queue: OutgoingCall[] = []
  readonly #open = new Map<string, Open>()
  #channel: CallSink | undefined

  constructor(module: string, worker: () => ResultSink | undefined) {
    this.#module = module
    this.#worker = worker
  }

  /** The orchestrator's channel; a new one takes the place of the old, which may be dead without knowing. */
  attach(channel: CallSink): void {
    const old = this.#channel
    this.#channel = undefined
    if (old !== undefined) {
      this.#failUnanswered()
      old.close()
    }
    this.#channel = channel
    for (const call of this.#queue.splice(0)) this.#send(channel, call)
  }

  detach(channel: CallSink): void {
    if (this.#channel !== channel) return
    this.#channel = undefined
    this.#failUnanswered()
  }

  /** A call, or the end of the interest in one, as the worker sent it. */
  take(call: OutgoingCall): void {
    if (call.kind === 'cancel') this.#cancel(call)
    else if (this.#open.size < mostCalls) this.#begin(call)
    else
      this.#refuse(
        call.id,
        new RunnerError('MODULE_BUSY', `Module ${this.#module} has ${mostCalls} calls open already.`),
      )
  }

  #begin(call: OutgoingCall): void {
    const limit = setTimeout(() => this.#giveUp(call.id), noChannelMs)
    this.#open.set(call.id, {
      sent: false,
      answering: false,
      onTheWay: 0,
      more: undefined,
      limit,
      abandon: new AbortController(),
    })
    if (this.#channel === undefined) this.#queue.push(call)
    else this.#send(this.#channel, call)
  }

  /** The module took results: more of them may go on their way. */
  window(id: string, frames: number): void {
    const open = this.#open.get(id)
    if (open === undefined) return
    open.onTheWay = Math.max(0, open.onTheWay - frames)
    this.#goOn(open)
  }

  /** The worker has ended: nobody waits for these calls any more. */
  drop(): void {
    this.#queue.length = 0
    for (const id of [...this.#open.keys()]) {
      this.#channel?.send({ id, kind: 'cancel' })
      this.#close(id)
    }
  }

  /**
   * Begins a result. Undefined when the caller has given the call up (410). The signal aborts when that happens later.
   */
  answer(id: string): AbortSignal | undefined {
    const open = this.#open.get(id)
    if (open === undefined || open.answering) return undefined
    open.answering = true
    return open.abandon.signal
  }

  /** Passes one CallResult on; resolves when the next may come. `last`: it ends the call. */
  async result(id: string, frame: string, last: boolean): Promise<void> {
    const open = this.#open.get(id)
    const worker = this.#worker()
    if (open === undefined || worker === undefined) return
    open.onTheWay += 1
    const drained = worker.sendResult(id, frame)
    if (last) return this.#close(id)
    if (!drained) await new Promise<void>((resolve) => worker.onDrain(resolve))
    if (open.onTheWay >= mostOnTheWay && !open.abandon.signal.aborted) {
      await new Promise<void>((resolve) => {
        open.more = resolve
      })
    }
  }

  /** The result broke off before its last line. */
  fail(id: string, error: RunnerError): void {
    if (this.#open.has(id)) this.#refuse(id, error)
  }

  #send(channel: CallSink, call: OutgoingCall): void {
    const open = this.#open.get(call.id)
    if (open === undefined) return
    open.sent = true
    clearTimeout(open.limit)
    channel.send(call)
  }

  #cancel(call: OutgoingCall): void {
    const open = this.#open.get(call.id)
    const at = this.#queue.findIndex((one) => one.id === call.id)
    if (at !== -1) this.#queue.splice(at, 1)
    if (open?.sent === true) this.#channel?.send(call)
    this.#close(call.id)
  }

  #giveUp(id: string): void {
    const at = this.#queue.findIndex((one) => one.id === id)
    if (at !== -1) this.#queue.splice(at, 1)
    const message = `Module ${this.#module} called another model, but the orchestrator takes no calls from it at the moment.`
    this.#refuse(id, new RunnerError('RUNNER_UNREACHABLE', message, { module: this.#module, remedy: 'try again' }))
  }

  #failUnanswered(): void {
    for (const [id, open] of [...this.#open]) {
      if (open.sent && !open.answering) {
        this.#refuse(
          id,
          new RunnerError('STREAM_INTERRUPTED', 'The orchestrator went away during a call to another model.'),
        )
      }
    }
  }

  #refuse(id: string, error: RunnerError): void {
    this.#worker()?.sendResult(id, JSON.stringify({ error: error.toWire() }))
    this.#close(id)
  }

  #close(id: string): void {
    const open = this.#open.get(id)
    if (open === undefined) return
    this.#open.delete(id)
    clearTimeout(open.limit)
    open.abandon.abort()
    this.#goOn(open)
  }

  #goOn(open: Open): void {
    const { more } = open
    open.more = undefined
    more?.()
  }
}
