/**
 * Work that several callers may want at the same time: it runs once per key. A caller that leaves does not disturb the
 * others; when the last one has left, the work is cancelled.
 */

type Work<Progress, Result> = (signal: AbortSignal, report: (progress: Progress) => void) => Promise<Result>

interface Running<Progress, Result> {
  readonly controller: AbortController
  readonly listeners: Set<(progress: Progress) => void>
  readonly result: Promise<Result>
  latest: Progress | undefined
}

export class SharedWork<Progress, Result> {
  readonly #running = new Map<string, Running<Progress, Result>>()

  /**
   * Joins the work under `key`, or begins it. Rejects with `signal.reason` as soon as the signal aborts. Work that was
   * cancelled is waited for before it begins anew, so that two of one key never overlap. A caller who joins late is
   * told the latest progress at once.
   */
  async run(
    key: string,
    signal: AbortSignal,
    onProgress: (progress: Progress) => void,
    work: Work<Progress, Result>,
  ): Promise<Result> {
    for (;;) {
      signal.throwIfAborted()
      const running = this.#running.get(key) ?? this.#begin(key, work)
      if (!running.controller.signal.aborted) return await this.#join(running, signal, onProgress)
      await untilAborted(
        running.result.catch(() => undefined),
        signal,
      )
    }
  }

  /** Cancels everything and resolves when all of it has ended. */
  async close(reason: unknown): Promise<void> {
    const all = [...this.#running.values()]
    for (const running of all) running.controller.abort(reason)
    await Promise.allSettled(all.map((running) => running.result))
  }

  #begin(key: string, work: Work<Progress, Result>): Running<Progress, Result> {
    const controller = new AbortController()
    const listeners = new Set<(progress: Progress) => void>()
    const report = (progress: Progress): void => {
      running.latest = progress
      for (const listener of listeners) listener(progress)
    }
    const result = Promise.resolve()
      .then(() => work(controller.signal, report))
      .finally(() => this.#running.delete(key))
    result.catch(() => undefined) // every caller may have left
    const running: Running<Progress, Result> = { controller, listeners, result, latest: undefined }
    this.#running.set(key, running)
    return running
  }

  async #join(
    running: Running<Progress, Result>,
    signal: AbortSignal,
    onProgress: (progress: Progress) => void,
  ): Promise<Result> {
    const listener = (progress: Progress): void => onProgress(progress)
    running.listeners.add(listener)
    if (running.latest !== undefined) onProgress(running.latest)
    try {
      return await untilAborted(running.result, signal)
    } finally {
      running.listeners.delete(listener)
      if (running.listeners.size === 0) running.controller.abort(signal.reason)
    }
  }
}

/** The promise's outcome, or `signal.reason` when the signal aborts first; the promise itself goes on. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw signal.reason
  let onAbort: (() => void) | undefined
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
}
