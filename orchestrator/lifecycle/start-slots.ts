import { reasonOf } from './callers.ts'

/** Bounds how many replicas boot at the same time: all at once they would take each other's processor until none is ready in time. */
export class StartSlots {
  readonly #waiting = new Set<() => void>()
  #free: number

  constructor(count: number) {
    this.#free = count
  }

  /** Resolves with what gives the slot back (once); in order of arrival. Rejects when the signal aborts first. */
  async take(signal: AbortSignal): Promise<() => void> {
    if (signal.aborted) throw reasonOf(signal)
    if (this.#free > 0) this.#free -= 1
    else await this.#turn(signal)
    let held = true
    return () => {
      if (!held) return
      held = false
      const [next] = this.#waiting
      if (next) next()
      else this.#free += 1
    }
  }

  #turn(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const end = () => {
        this.#waiting.delete(begin)
        signal.removeEventListener('abort', onAbort)
      }
      const begin = () => {
        end()
        resolve()
      }
      const onAbort = () => {
        end()
        reject(reasonOf(signal))
      }
      this.#waiting.add(begin)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }
}
