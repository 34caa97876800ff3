import type { Clock } from '../../orchestrator/domain/clock.ts'

interface Timer {
  readonly atMs: number
  readonly callback: () => void
}

/** A clock that a test moves by hand: nothing happens on it between two calls of `advance`. */
export class FakeClock implements Clock {
  #nowMs: number
  readonly #timers = new Set<Timer>()

  constructor(nowMs = 1_000_000) {
    this.#nowMs = nowMs
  }

  /** Timers that have been set and have neither run nor been cancelled. */
  get pending(): number {
    return this.#timers.size
  }

  /** Time that passes from one look at the clock to the next, and how much too early timers run: zero unlike in life. */
  passingMs = 0
  earlyMs = 0

  now(): number {
    this.#nowMs += this.passingMs
    return this.#nowMs
  }

  schedule(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** Runs every timer that falls due on the way, in order; answers how many ran. */
  advance(byMs: number): number {
    const untilMs = this.#nowMs + byMs
    let ran = 0
    for (let timer = this.#next(untilMs); timer; timer = this.#next(untilMs)) {
      this.#timers.delete(timer)
      this.#nowMs = Math.max(this.#nowMs, timer.atMs - this.earlyMs)
      timer.callback()
      ran += 1
    }
    this.#nowMs = untilMs
    return ran
  }

  #next(untilMs: number): Timer | undefined {
    const due = [...this.#timers].filter((timer) => timer.atMs - this.earlyMs <= untilMs)
    return due.sort((a, b) => a.atMs - b.atMs)[0]
  }
}
