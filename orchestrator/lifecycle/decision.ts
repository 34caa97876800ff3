import type { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { ModuleState, Operation, Replica, Waiter } from './state.ts'

/** What the writer is to do next. Each names its cause where a person could ask why. */
export type Decision =
  | { readonly do: 'prepare' }
  | {
      readonly do: 'start'
      readonly replica: string
      readonly cause: string
      /** Models to load without being asked to. */
      readonly warm?: readonly string[]
      /** The outdated replica that it is to take over from. */
      readonly replaces?: Replica
    }
  | {
      readonly do: 'drain'
      readonly replica: Replica
      readonly cause: string
      readonly servesWaiters: boolean
      /** Because nobody uses it: a rung of the idle ladder. */
      readonly idle?: boolean
    }
  | { readonly do: 'stop'; readonly replica: Replica; readonly cause: string }
  | { readonly do: 'scale'; readonly target: number; readonly cause: string }
  | { readonly do: 'probe'; readonly replica: Replica }
  /** Nobody needs what the replica waits for any more. */
  | { readonly do: 'withdraw'; readonly replica: string }
  | {
      readonly do: 'load'
      readonly replica: Replica
      readonly models: Readonly<Record<string, JsonObject>>
      readonly operation?: Operation
    }
  | {
      readonly do: 'offload'
      readonly replica: Replica
      readonly models: readonly string[]
      readonly cause: string
      readonly operation?: Operation
      readonly idle?: boolean
    }
  | { readonly do: 'finish'; readonly operation: Operation }
  | { readonly do: 'refuse'; readonly operation: Operation; readonly error: BerthError }
  | { readonly do: 'grant'; readonly waiter: Waiter; readonly replica: Replica }
  | { readonly do: 'reject'; readonly waiter: Waiter; readonly error: BerthError }
  | { readonly do: 'tell'; readonly waiter: Waiter; readonly position: number }

/** Time and chance of one decision, given from outside so that a run can be repeated. */
export interface Moment {
  readonly nowMs: number
  /** In [0, 1). */
  readonly random: number
}

/** The next decisions of one kind for a state. Pure. */
export type Rule = (state: ModuleState, moment: Moment) => readonly Decision[]

export const nothing: readonly Decision[] = []
