import type { BerthError } from '../domain/errors.ts'
import type { EnvironmentInfo, PrepareProgress, Workload } from '../engines/engine.ts'
import type { Shortage } from './resources/schedule.ts'
import type { LoadedModel, ModuleDefinition, Operation, Waiter } from './state.ts'

/** Facts that are posted to a module's writer. Late ones (of an older generation) are ignored by apply.ts. */
export type LifecycleEvent =
  | { readonly type: 'define'; readonly definition: ModuleDefinition }
  /** Nothing new where it is so already; `afresh`: what failed is tried again all the same. */
  | { readonly type: 'want'; readonly wanted: 'enabled' | 'disabled' | 'removed'; readonly afresh?: boolean }
  /** The engine can be reached again: what failed for want of it is tried at once. */
  | { readonly type: 'engine-back' }
  | { readonly type: 'restart' }
  | { readonly type: 'wait'; readonly waiter: Waiter }
  | { readonly type: 'leave'; readonly waiter: number }
  | { readonly type: 'operate'; readonly operation: Operation }
  | { readonly type: 'abandon'; readonly operation: number }
  /** `loaded` is what the lease was granted on: the same model loaded anew counts its own leases. */
  | ({ readonly type: 'release'; readonly model: string; readonly loaded: LoadedModel; readonly heldMs: number } & Of)
  | { readonly type: 'prepare-progress'; readonly specHash: string; readonly progress: PrepareProgress }
  | { readonly type: 'prepared'; readonly specHash: string; readonly environment: EnvironmentInfo | undefined }
  | { readonly type: 'prepare-failed'; readonly specHash: string; readonly error: BerthError }
  | ({ readonly type: 'started'; readonly workload: Workload } & Of)
  | ({ readonly type: 'answering'; readonly models: readonly string[] } & Of)
  | ({ readonly type: 'start-failed'; readonly error: BerthError } & Of)
  | ({ readonly type: 'loaded'; readonly models: readonly string[] } & Of)
  | ({ readonly type: 'load-failed'; readonly models: readonly string[]; readonly error: BerthError } & Of)
  | ({ readonly type: 'offloaded'; readonly models: readonly string[] } & Of)
  | ({ readonly type: 'offload-failed'; readonly models: readonly string[]; readonly error: BerthError } & Of)
  /** Something said that the worker may be gone: ask its health before anything else is granted. */
  | ({ readonly type: 'suspect' } & Of)
  | ({ readonly type: 'health'; readonly models: readonly string[] } & Of)
  /** It is hung or must go now: no grace. */
  | ({ readonly type: 'condemn'; readonly error: BerthError } & Of)
  | ({ readonly type: 'exited'; readonly error: BerthError } & Of)
  | ({ readonly type: 'stopped' } & Of)
  | ({
      readonly type: 'adopt'
      readonly workload: Workload
      readonly models: readonly string[]
      /** Model -> what was configured when it was loaded (configured-hash.ts). */
      readonly remembered: ReadonlyMap<string, string>
    } & Of)
  /** There may be room by now for the replica that waits for some; with `shortage` there is not, for another reason than before. */
  | { readonly type: 'room'; readonly replica: string; readonly shortage?: Shortage }
  /** Others need what it holds: it goes, if it is still idle. */
  | ({ readonly type: 'yield'; readonly what: 'offload' | 'stop'; readonly neededBy: string } & Of)
  /** A container of somebody else that is listed does not answer as it should. */
  | { readonly type: 'not-adopted'; readonly error: BerthError }
  | { readonly type: 'tick' }

interface Of {
  readonly replica: string
  readonly generation: number
}
