import type { KeyScope, KeyView } from '../domain/api-key.ts'
import type { JsonObject } from '../domain/json.ts'
import type { Scale } from '../domain/manifest.ts'
import type { Priority } from '../domain/priority.ts'
import type { GpuView, LogRecord, ModelView, ModuleView, PlanStepView } from '../domain/views.ts'
import type { EnvironmentInfo } from '../engines/engine.ts'

/** What the routes need of the rest: made by the composition root, replaced by small fakes in route tests. */
export interface Services {
  readonly modules: ModulesService
  readonly models: ModelsService
  readonly environments: EnvironmentsService
  readonly keys: KeysService
  readonly system: SystemService
}

/** With `wait`, resolves when the work is done (or rejects with its error); without, when it is accepted. */
export interface ActionOptions {
  readonly wait: boolean
  readonly signal: AbortSignal
}

export interface ModulesService {
  list(): readonly ModuleView[]
  /** Rejects with MODULE_NOT_FOUND. */
  get(id: string): ModuleView
  /** `source`: an image reference or a path of a folder with a module. */
  add(source: string, options: ActionOptions): Promise<ModuleView>
  /** Resolves with the module as it goes, or with nothing when it is gone. */
  remove(id: string, options: ActionOptions): Promise<ModuleView | undefined>
  enable(id: string, options: ActionOptions): Promise<ModuleView>
  disable(id: string, options: ActionOptions): Promise<ModuleView>
  restart(id: string, options: ActionOptions): Promise<ModuleView>
  /** How many replicas there may be, for good; undefined: what the manifest says again. */
  scale(id: string, scale: Scale | undefined, options: ActionOptions): Promise<ModuleView>
  /** SERVICE_LOAD_MODELS, literally: these models with these configurations. */
  load(id: string, models: Readonly<Record<string, JsonObject>>, signal: AbortSignal): Promise<readonly string[]>
  offload(id: string, models: readonly string[], signal: AbortSignal): Promise<readonly string[]>
  /** `after`: begins with the record after the one of this id. */
  logs(
    id: string,
    options: { follow: boolean; tail?: number; after?: number; signal: AbortSignal },
  ): AsyncIterable<LogRecord>
}

export interface ModelsService {
  list(): readonly ModelView[]
  /** Rejects with MODEL_NOT_FOUND. */
  get(name: string): ModelView
  /** The model that a name asks for (an alias leads to another one), and its module where one is known. */
  resolve(name: string): { readonly model: string; readonly module?: string }
  /** Resolve with the module that serves the model. */
  load(name: string, options: ActionOptions & { readonly caller: string }): Promise<ModuleView>
  offload(name: string, options: ActionOptions): Promise<ModuleView>
}

export interface EnvironmentsService {
  list(): Promise<readonly (EnvironmentInfo & { readonly modules: readonly string[] })[]>
  /** Removes those that no known module wants. */
  prune(): Promise<readonly EnvironmentInfo[]>
}

/** A key that is to be made. */
export interface KeyWish {
  readonly name: string
  readonly scopes: readonly KeyScope[]
  readonly models?: readonly string[]
  /** ISO 8601, in the future. */
  readonly expiresAt?: string
  readonly priority: Priority
}

export interface KeysService {
  /** Requests need a key. */
  readonly required: boolean
  list(): readonly KeyView[]
  /** The secret is kept nowhere. Throws REQUEST_INVALID. `by`: the caller, for the log. */
  add(wish: KeyWish, by: string): { readonly key: KeyView; readonly secret: string }
  /** Throws NOT_FOUND, or FORBIDDEN for a key that must stay. */
  remove(name: string, by: string): void
}

export interface SystemService {
  /** Empty when ready; else the reasons why not. */
  readiness(): Promise<readonly string[]>
  readonly version: string
  readonly instance: string
  readonly engine: { readonly name: string; readonly description: string; readonly reason: string }
  gpus(): readonly GpuView[]
  /** What would be done now to bring what runs to what is wanted, and why; nothing is done. */
  plan(signal: AbortSignal): Promise<readonly PlanStepView[]>
  /** Stops every module of this instance, then ends the orchestrator. Resolves when the modules are gone. */
  shutdown(signal: AbortSignal): Promise<{ readonly stopped: readonly string[] }>
}
