/** When something was away on purpose, so that what failed meanwhile is not held against Berth. Milliseconds of the process. */
export class Outages {
  readonly #open = new Map<string, number>()
  readonly #over: { readonly what: string; readonly fromMs: number; readonly toMs: number }[] = []

  /** The same thing may be away for two reasons: it is back when both are over. */
  begin(what: string): () => void {
    const fromMs = performance.now()
    this.#open.set(what, (this.#open.get(what) ?? 0) + 1)
    let ended = false
    return () => {
      if (ended) return
      ended = true
      this.#open.set(what, (this.#open.get(what) ?? 1) - 1)
      this.#over.push({ what, fromMs, toMs: performance.now() })
    }
  }

  isOpen(what: string): boolean {
    return (this.#open.get(what) ?? 0) > 0
  }

  /** Was it away at any time since then? */
  since(what: string, fromMs: number): boolean {
    return this.isOpen(what) || this.#over.some((outage) => outage.what === what && outage.toMs >= fromMs)
  }
}
