import type { Socket } from 'node:net'
import type { OutgoingCall, RunnerConfiguration } from '../../protocol.ts'
import { isRecord, RunnerError } from '../errors.ts'
import { parseExact } from '../exact-json.ts'
import type { Level, LogSink } from '../log-output.ts'
import type { WorkerChild } from './child.ts'
import { FrameReader, frames, jsonFrame } from './frames.ts'
import type { Hello } from './link.ts'
import { Slot, type SlotOwner } from './slot.ts'

/** What a worker tells while it lives. */
export interface WorkerEvents {
  imported(): void
  importFailed(error: RunnerError): void
  call(call: OutgoingCall): void
  /** The module took this many more results of a call. */
  window(call: string, frames: number): void
}

/** One load or offload that waits for its answer. The worker does one at a time, in its main thread. */
interface Job {
  readonly id: number
  readonly frame: Buffer
  readonly resolve: () => void
  readonly reject: (error: RunnerError) => void
}

/** A model with its outgoing call may be large; more than this is nothing that the worker sends. */
const longestFrame = 512 * 1024 * 1024
const mostIdleSlots = 32
/** Within this time the end of the worker's process is known and explained. */
const exitKnownMs = 2_000

/** One worker process and its connections. Its life and replacement are the supervisor's business. */
export class Worker implements SlotOwner {
  readonly child: WorkerChild
  readonly #module: RunnerConfiguration
  readonly #events: WorkerEvents
  readonly #log: LogSink
  readonly #mostSlots: number
  #control: Socket | undefined
  #nonce = ''
  #jobs: Job[] = []
  #lastId = 0
  readonly #idle: Slot[] = []
  readonly #slots = new Set<Slot>()
  readonly #opening = new Map<number, { resolve: (slot: Slot) => void; reject: (error: RunnerError) => void }>()
  readonly #drained: (() => void)[] = []
  /** Slots that were cancelled, until the worker says that their inference has really ended. */
  readonly #ending = new Map<number, () => void>()

  constructor(child: WorkerChild, module: RunnerConfiguration, events: WorkerEvents, log: LogSink, mostSlots: number) {
    this.child = child
    this.#module = module
    this.#events = events
    this.#log = log
    this.#mostSlots = mostSlots
  }

  /** Takes a connection that the worker made. */
  arrive(hello: Hello, socket: Socket, rest: Buffer): void {
    if (hello.role === 'control') this.#takeControl(hello, socket, rest)
    else this.#takeSlot(hello, socket)
  }

  #takeSlot(hello: Hello, socket: Socket): void {
    const waiting = hello.slot === undefined ? undefined : this.#opening.get(hello.slot)
    if (waiting === undefined || hello.slot === undefined) {
      socket.destroy()
      return
    }
    this.#opening.delete(hello.slot)
    const slot = new Slot(hello.slot, socket, this.#nonce, this)
    this.#slots.add(slot)
    waiting.resolve(slot)
  }

  get connected(): boolean {
    return this.#control !== undefined
  }

  /** A slot that was used before, or undefined: then `openSlot` makes one. */
  takeIdleSlot(): Slot | undefined {
    return this.#idle.pop()
  }

  /** Rejects with MODULE_BUSY at the limit of slots, or with the worker's end. */
  openSlot(): Promise<Slot> {
    if (this.#slots.size + this.#opening.size >= this.#mostSlots) {
      const message = `Module ${this.#module.id} computes ${this.#mostSlots} inferences already.`
      return Promise.reject(new RunnerError('MODULE_BUSY', message, { module: this.#module.id }))
    }
    this.#lastId += 1
    const id = this.#lastId
    return new Promise((resolve, reject) => {
      this.#opening.set(id, { resolve, reject })
      this.#send(frames.open, JSON.stringify({ open: id }))
    })
  }

  /** Gives a slot back that was taken and not used. */
  giveBack(slot: Slot): void {
    this.slotIdle(slot)
  }

  /** Closes a slot in the midst of an inference. `ended` is called when its generator is closed, or the worker gone. */
  cancel(slot: Slot, ended: () => void): void {
    const closed = slot.closed
    slot.destroy()
    if (closed) ended()
    else this.#ending.set(slot.id, ended)
  }

  slotIdle(slot: Slot): void {
    if (this.#idle.length < mostIdleSlots) this.#idle.push(slot)
    else slot.destroy()
  }

  slotClosed(slot: Slot, midway: boolean): void {
    const at = this.#idle.indexOf(slot)
    if (at !== -1) this.#idle.splice(at, 1)
    if (!midway) {
      this.#slots.delete(slot)
      return
    }
    // Most often the whole worker has ended, and its end, known in a moment, is the better reason.
    setTimeout(() => {
      this.#slots.delete(slot)
      slot.end(
        new RunnerError(
          'STREAM_INTERRUPTED',
          `The worker of module ${this.#module.id} closed this inference's connection.`,
        ),
      )
    }, exitKnownMs)
  }

  /**
   * Runs a load or offload. `models` is JSON text. When the signal aborts while the worker is at it, `stuck` is called; a
   * job that has not begun is taken back.
   */
  run(type: number, models: string, signal: AbortSignal, stuck: () => void): Promise<void> {
    this.#lastId += 1
    const id = this.#lastId
    return new Promise<void>((resolve, reject) => {
      const onAbort = () => {
        const at = this.#jobs.findIndex((job) => job.id === id)
        if (at === 0) stuck()
        else if (at > 0) {
          this.#jobs.splice(at, 1)
          reject(new RunnerError('CLIENT_CLOSED', 'The caller left.'))
        }
      }
      const settle =
        <T extends unknown[]>(act: (...values: T) => void) =>
        (...values: T) => {
          signal.removeEventListener('abort', onAbort)
          act(...values)
        }
      const frame = jsonFrame(type, `{"id":${id},"models":${models}}`)
      this.#jobs.push({ id, frame, resolve: settle(resolve), reject: settle(reject) })
      signal.addEventListener('abort', onAbort, { once: true })
      if (this.#jobs.length === 1) this.#control?.write(frame)
    })
  }

  /** Sends a result of an outgoing call; `frame` is a CallResult as JSON text. False: wait for `onDrain`. */
  sendResult(call: string, frame: string): boolean {
    return this.#send(frames.result, `{"call":${JSON.stringify(call)},"frame":${frame}}`)
  }

  /** Also called back when the worker has ended: nobody is to wait for it then. */
  onDrain(callback: () => void): void {
    const control = this.#control
    if (control === undefined || control.destroyed || !control.writableNeedDrain) callback()
    else this.#drained.push(callback)
  }

  /** Asks it to offload everything and to exit with 0. */
  quit(): void {
    this.#send(frames.quit, '{}')
  }

  /** Ends everything that waits for this worker, with the error of its end. */
  close(error: RunnerError): void {
    this.#control?.destroy()
    const jobs = this.#jobs
    this.#jobs = []
    for (const job of jobs) job.reject(error)
    for (const waiting of this.#opening.values()) waiting.reject(error)
    this.#opening.clear()
    for (const ended of this.#ending.values()) ended()
    this.#ending.clear()
    for (const slot of [...this.#slots]) slot.end(error)
  }

  #send(type: number, json: string): boolean {
    return this.#control?.write(jsonFrame(type, json)) ?? true
  }

  #takeControl(hello: Hello, socket: Socket, rest: Buffer): void {
    if (this.#control !== undefined) {
      socket.destroy()
      return
    }
    this.#control = socket
    this.#nonce = hello.attachmentNonce ?? ''
    const reader = new FrameReader(longestFrame, (type, payload) => this.#take(type, payload))
    const push = (bytes: Buffer) => {
      try {
        reader.push(bytes)
      } catch (error) {
        this.#log.write(
          'error',
          'runner',
          `the worker's control connection makes no sense (${String(error)}); it is replaced`,
        )
        this.child.kill()
      }
    }
    socket.on('data', push)
    const drained = () => {
      for (const callback of this.#drained.splice(0)) callback()
    }
    socket.on('drain', drained)
    socket.on('close', drained)
    // Without its control connection a worker can't be told anything any more.
    socket.on('close', () => this.child.kill())
    if (rest.length > 0) push(rest)
  }

  #take(type: number, payload: Buffer): void {
    const text = payload.toString('utf8')
    let message: unknown
    try {
      // Exact, as what a call sends to another model reaches Python again.
      message = parseExact(text)
    } catch (error) {
      if (type !== frames.call) throw error
      this.#refuseCall(text, error)
      return
    }
    if (!isRecord(message)) return
    if (type === frames.answer) this.#answer(message)
    else if (type === frames.ended && typeof message.slot === 'number') this.#ended(message.slot)
    else if (type === frames.log) this.#log.write(message.level as Level, 'module', String(message.message))
    else if (type === frames.call) this.#events.call(message as OutgoingCall)
    else if (type === frames.window) this.#events.window(String(message.call), Number(message.frames))
    else if (type === frames.status) {
      if (message.state === 'imported') this.#events.imported()
      else this.#events.importFailed(RunnerError.fromWire(message.error, 'LOAD_FAILED'))
    }
  }

  /** A call that is no JSON, as one with NaN in it: it alone fails, not the worker. */
  #refuseCall(text: string, error: unknown): void {
    const message = `Module ${this.#module.id} made a call that is not JSON: ${String(error)}`
    this.#log.write('error', 'runner', message)
    const [, id] = /^\{"id":"(\d+)"/.exec(text) ?? []
    if (id === undefined) return
    this.sendResult(id, JSON.stringify({ error: new RunnerError('REQUEST_INVALID', message).toWire() }))
  }

  #answer(message: Record<string, unknown>): void {
    const [job] = this.#jobs
    if (job === undefined || job.id !== message.id) return
    this.#jobs.shift()
    const [next] = this.#jobs
    if (next !== undefined) this.#control?.write(next.frame)
    if (message.error === undefined) job.resolve()
    else job.reject(RunnerError.fromWire(message.error, 'LOAD_FAILED'))
  }

  #ended(slot: number): void {
    const ended = this.#ending.get(slot)
    this.#ending.delete(slot)
    ended?.()
  }
}
