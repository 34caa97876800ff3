import type { Engine } from '../engines/engine.ts'
import type { ModuleWriter } from '../lifecycle/module-writer.ts'
import type { Store } from '../store/store.ts'
import type { Supervisor } from './supervisor.ts'

/**
 * What a removed module leaves behind (data, networks, images, its log) is removed when it has stopped. Until that is done
 * the removal is on record, so that one which the orchestrator did not live to finish is finished after the next start.
 */
export interface RemovalsOptions {
  readonly store: Pick<Store, 'removals'>
  readonly supervisor: Pick<Supervisor, 'records'>
  readonly engine: Pick<Engine, 'list' | 'stop' | 'forget'>
  /** Log and metrics of the module. */
  readonly forgetTelemetry: (module: string) => Promise<void>
  readonly onProblem: (module: string, error: unknown) => void
}

export class Removals {
  readonly #options: RemovalsOptions
  /** Nobody works on these. */
  readonly #left: Set<string>

  constructor(options: RemovalsOptions) {
    this.#options = options
    this.#left = new Set(options.store.removals.list())
  }

  /** Resolves when nothing of the module is left; one that was added again meanwhile keeps what there is of it. */
  async finish(module: string, writer: ModuleWriter | undefined, signal: AbortSignal): Promise<void> {
    this.#left.delete(module)
    try {
      await writer?.until((state) => state.replicas.size === 0, signal)
      await this.#forget(module)
    } catch (error) {
      this.#left.add(module)
      throw error
    }
  }

  /** Those that were not finished; to be called whenever the engine is there (again). One that fails stays on record. */
  async resume(): Promise<void> {
    const { engine, onProblem } = this.#options
    if (this.#left.size === 0) return
    const workloads = await engine.list()
    for (const module of [...this.#left]) {
      try {
        if (!this.#isBack(module)) {
          const its = workloads.filter((workload) => workload.module === module)
          await Promise.all(its.map(({ id }) => engine.stop(id, { graceMs: 5_000 })))
        }
        await this.#forget(module)
      } catch (error) {
        onProblem(module, error)
      }
    }
  }

  async #forget(module: string): Promise<void> {
    const { store, engine, forgetTelemetry } = this.#options
    if (!this.#isBack(module)) {
      await engine.forget(module, { data: true })
      await forgetTelemetry(module)
    }
    store.removals.done(module)
    this.#left.delete(module)
  }

  #isBack(module: string): boolean {
    return this.#options.supervisor.records.has(module)
  }
}
