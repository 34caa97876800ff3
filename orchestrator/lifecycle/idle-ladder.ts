import type { LifecycleObserver } from './effects.ts'

/** Measures the idle ladder: which rungs a module has gone down for want of use, and how long the way back up took. */
export class IdleLadder {
  readonly #module: string
  readonly #observer: LifecycleObserver
  readonly #offloaded = new Set<string>()
  #stopped = false

  constructor(module: string, observer: LifecycleObserver) {
    this.#module = module
    this.#observer = observer
  }

  offloaded(models: readonly string[]): void {
    for (const model of models) this.#offloaded.add(model)
    this.#observer.idled(this.#module, 'offload')
  }

  stopped(): void {
    this.#stopped = true
    this.#observer.idled(this.#module, 'stop')
  }

  loaded(models: readonly string[], ms: number): void {
    const back = models.filter((model) => this.#offloaded.delete(model))
    if (back.length > 0) this.#observer.wayBack(this.#module, 'load', ms)
  }

  started(ms: number): void {
    if (this.#stopped) this.#observer.wayBack(this.#module, 'start', ms)
    this.#stopped = false
  }
}
