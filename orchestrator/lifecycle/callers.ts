import { BerthError } from '../domain/errors.ts'

/** The promises of those who wait for a writer, by id. Each settles once and stops listening to its signal then. */
export class Callers<T> {
  readonly #entries = new Map<number, Caller<T>>()

  /** Settles through `take`; when the signal aborts first, it rejects with the reason and `onLeave` is called. */
  add(id: number, signal: AbortSignal, onLeave: () => void, onPosition?: (position: number) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        if (!this.#entries.delete(id)) return
        reject(reasonOf(signal))
        onLeave()
      }
      const settled = () => signal.removeEventListener('abort', onAbort)
      this.#entries.set(id, {
        resolve(value) {
          settled()
          resolve(value)
        },
        reject(error) {
          settled()
          reject(error)
        },
        onPosition,
      })
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /** Whoever takes a caller settles it. Undefined: it has left, or there was none (a revival). */
  take(id: number): Caller<T> | undefined {
    const caller = this.#entries.get(id)
    this.#entries.delete(id)
    return caller
  }

  tell(id: number, position: number): void {
    this.#entries.get(id)?.onPosition?.(position)
  }

  rejectAll(error: BerthError): void {
    for (const caller of this.#entries.values()) caller.reject(error)
    this.#entries.clear()
  }
}

export interface Caller<T> {
  resolve(value: T): void
  reject(error: BerthError): void
  readonly onPosition: ((position: number) => void) | undefined
}

export function closedError(): BerthError {
  return new BerthError('CLIENT_CLOSED', 'The caller went away.')
}

/** Why a signal was aborted, where it says so itself. */
export function reasonOf(signal: AbortSignal): BerthError {
  return signal.reason instanceof BerthError ? signal.reason : closedError()
}

export function shuttingDown(): BerthError {
  return new BerthError('SHUTTING_DOWN', 'Berth is shutting down; try again in a moment.')
}
