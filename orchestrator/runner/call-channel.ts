import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { Compile } from 'typebox/compile'
import type { Pool } from 'undici'
import { type CallResult, OutgoingCall } from '../../module-runner/protocol.ts'
import { parseJsonAsWritten } from '../domain/json.ts'
import { LineSplitter } from './line-splitter.ts'

/** Answers one outgoing call of a module; what it yields is posted back as it comes. */
export type CallHandler = (call: OutgoingCall, signal: AbortSignal) => AsyncIterable<CallResult>

const outgoingCall = Compile(OutgoingCall)
/** The runner sends an empty line every few seconds; silence longer than this is a broken channel. */
const silenceMs = 30_000
const retryMs = 500

/**
 * The channel for module-to-module calls, opened by the orchestrator (runner-protocol): a runner never needs a route to
 * it. Calls run side by side; each is cancelled when its caller gives it up or the channel breaks.
 */
export class CallChannel {
  readonly #pool: Pool
  readonly #headers: Record<string, string>
  readonly #handler: CallHandler
  readonly #running = new Map<string, AbortController>()

  constructor(pool: Pool, authorization: string, handler: CallHandler) {
    this.#pool = pool
    this.#headers = { authorization }
    this.#handler = handler
  }

  /** Keeps the channel open until the signal aborts. Never rejects: a channel that breaks is opened again. */
  run(signal: AbortSignal): void {
    this.#loop(signal).catch(() => {})
  }

  async #loop(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#read(signal).catch(() => {})
      for (const controller of this.#running.values()) controller.abort()
      this.#running.clear()
      await delay(retryMs, undefined, { signal, ref: false })
    }
  }

  async #read(signal: AbortSignal): Promise<void> {
    const answer = await this.#pool.request({
      method: 'GET',
      path: '/calls',
      headers: this.#headers,
      signal,
      headersTimeout: silenceMs,
      bodyTimeout: silenceMs,
    })
    if (answer.statusCode !== 200) {
      await answer.body.dump()
      return
    }
    const lines = new LineSplitter()
    for await (const bytes of answer.body) {
      for (const line of lines.push(bytes as Buffer)) this.#take(line.toString('utf8'))
    }
  }

  #take(line: string): void {
    if (line.trim() === '') return
    const call: unknown = parseJsonAsWritten(line)
    if (!outgoingCall.Check(call)) return
    if (call.kind === 'cancel') {
      this.#running.get(call.id)?.abort()
      return
    }
    // Ended by `#loop` when the channel breaks, so that nothing has to listen to the channel's own signal.
    const controller = new AbortController()
    this.#running.set(call.id, controller)
    this.#answer(call, controller.signal)
      .catch(() => {})
      .finally(() => {
        // Whoever computes the answer learns here that nobody takes it any more.
        controller.abort()
        if (this.#running.get(call.id) === controller) this.#running.delete(call.id)
      })
  }

  async #answer(call: OutgoingCall, signal: AbortSignal): Promise<void> {
    const handler = this.#handler
    async function* lines(): AsyncGenerator<string> {
      for await (const result of handler(call, signal)) yield `${JSON.stringify(result)}\n`
    }
    const answer = await this.#pool.request({
      method: 'POST',
      path: `/calls/${encodeURIComponent(call.id)}`,
      headers: { ...this.#headers, 'content-type': 'application/x-ndjson' },
      body: Readable.from(lines()),
      signal,
    })
    await answer.body.dump()
  }
}
