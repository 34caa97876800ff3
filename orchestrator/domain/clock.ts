/** Time as an argument: decisions are tested with a fake clock and no sleeps. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number
  /** Runs `callback` once after `delayMs`; the returned function cancels it. Does not keep the process alive. */
  schedule(delayMs: number, callback: () => void): () => void
}

function schedule(delayMs: number, callback: () => void): () => void {
  const timer = setTimeout(callback, Math.min(delayMs, 2_147_483_647))
  timer.unref()
  return () => clearTimeout(timer)
}

/** What the machine's clock says: for what people and other programs read. It may be set back. */
export const systemClock: Clock = { now: () => Date.now(), schedule }

/** For deadlines and ages: never goes back or leaps, whatever is done to the machine's clock after the start. */
export const steadyClock: Clock = { now: () => performance.timeOrigin + performance.now(), schedule }
