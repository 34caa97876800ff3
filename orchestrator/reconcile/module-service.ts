import { BerthError } from '../domain/errors.ts'
import type { JsonObject } from '../domain/json.ts'
import type { Scale } from '../domain/manifest.ts'
import type { ModelView, ModuleView } from '../domain/views.ts'
import type { EngineCapabilities } from '../engines/engine.ts'
import { untilAborted } from '../engines/shared-work.ts'
import { isLive, isUp, type ModuleState } from '../lifecycle/state.ts'
import { findModel, findModule, moduleNotFound, noSuchModel } from './model-routes.ts'
import type { ModuleRecord, Supervisor } from './supervisor.ts'
import { modelView, moduleView, securityOf } from './views.ts'

/** What a user does to modules and models: changes of desired state, and explicit loads. */

export interface ModuleServiceOptions {
  readonly supervisor: Supervisor
  readonly capabilities: () => EngineCapabilities
  /** Makes a disabled or enabled module last, and has the writers follow. */
  readonly setDisabled: (id: string, disabled: boolean) => void
  /** Makes a number of replicas last, or the manifest's hold again, and has the writers follow. */
  readonly setScale: (id: string, scale: Scale | undefined) => void
  /** Adds a module for good; resolves with its id. */
  readonly add: (source: string, signal: AbortSignal) => Promise<string>
  /**
   * Takes an added module off the record; rejects for one that is not Berth's to remove. The rest, until `gone`, goes on
   * whoever waits for it.
   */
  readonly remove: (id: string) => Promise<{ readonly gone: Promise<void> }>
}

interface ActionOptions {
  readonly wait: boolean
  readonly signal: AbortSignal
}

export function createModuleService(options: ModuleServiceOptions) {
  const { supervisor, capabilities } = options

  const view = (record: ModuleRecord): ModuleView => {
    const { desired, writer, id } = record
    const { error, source } = desired
    const shown = error ?? desired.problem
    const scale = supervisor.desired.scales.get(id)
    if (writer) return moduleView(writer.state, capabilities(), shown)
    return {
      id,
      format: source.kind === 'folder' ? 'service' : 'image',
      desired: supervisor.desired.disabled.has(id) ? 'disabled' : 'enabled',
      state: 'failed',
      source: source.kind === 'folder' ? source.path : source.reference,
      ...(scale ? { scale } : {}),
      replicas: [],
      models: [],
      ...(error ? { error: error.toBody() } : {}),
      security: securityOf(capabilities()),
    }
  }

  const recordOf = (id: string): ModuleRecord => {
    const record = supervisor.records.get(id)
    if (!record) throw moduleNotFound(id)
    return record
  }
  const get = (id: string): ModuleView => view(recordOf(id))

  /** Throws for what is done to containers, where those are not Berth's. */
  function mustBeOurs(id: string, what: string): void {
    const { source } = recordOf(id).desired
    if (source.kind !== 'external') return
    const remedy = `do it there, for example with docker compose; \`berth disable ${id}\` only takes it out of use`
    const message = `Module ${id} can't be ${what} by Berth, which does not run its containers: that is ${source.reference}. To do: ${remedy}`
    throw new BerthError('FORBIDDEN', message, { module: id, remedy })
  }

  /** Waits for the environment, and for a replica where one is wanted. Rejects with what failed. */
  async function settled(
    id: string,
    condition: (state: Readonly<ModuleState>) => boolean,
    { wait, signal }: ActionOptions,
  ) {
    if (wait) {
      const writer = findModule(supervisor, id)
      await writer.until((state) => condition(state) || failureOf(state) !== undefined, signal)
      const failure = failureOf(writer.state)
      if (failure && !condition(writer.state)) throw failure
    }
    return get(id)
  }

  return {
    list: (): readonly ModuleView[] =>
      [...supervisor.records.values()].map(view).sort((a, b) => a.id.localeCompare(b.id)),
    get,

    async add(source: string, action: ActionOptions): Promise<ModuleView> {
      return settled(await options.add(source, action.signal), isPrepared, action)
    },

    /** Resolves with the module as it goes, or with nothing when it is gone. */
    async remove(id: string, { wait, signal }: ActionOptions): Promise<ModuleView | undefined> {
      const record = recordOf(id)
      mustBeOurs(id, 'removed')
      const { gone } = await options.remove(id)
      gone.catch(() => {})
      if (!wait) return view(record)
      await untilAborted(gone, signal)
      return undefined
    },

    async enable(id: string, action: ActionOptions): Promise<ModuleView> {
      recordOf(id)
      // The wish holds also for one whose manifest is broken: it runs as soon as that is mended.
      options.setDisabled(id, false)
      findModule(supervisor, id).post({ type: 'want', wanted: 'enabled', afresh: true })
      return settled(id, isPrepared, action)
    },

    async disable(id: string, action: ActionOptions): Promise<ModuleView> {
      get(id)
      options.setDisabled(id, true)
      if (!supervisor.records.get(id)?.writer) return get(id)
      return settled(id, (state) => state.replicas.size === 0, action)
    },

    async restart(id: string, action: ActionOptions): Promise<ModuleView> {
      mustBeOurs(id, 'restarted')
      const writer = findModule(supervisor, id)
      if (supervisor.desired.disabled.has(id)) {
        throw new BerthError('MODULE_DISABLED', `Module ${id} is disabled; enable it with: berth enable ${id}`, {
          module: id,
        })
      }
      writer.post({ type: 'restart' })
      return settled(id, isRunningAnew, action)
    },

    async scale(id: string, scale: Scale | undefined, action: ActionOptions): Promise<ModuleView> {
      mustBeOurs(id, 'scaled')
      options.setScale(id, scale)
      if (supervisor.records.get(id)?.writer?.state.wanted !== 'enabled') return get(id)
      return settled(id, isScaled, action)
    },

    load(id: string, models: Readonly<Record<string, JsonObject>>, signal: AbortSignal): Promise<readonly string[]> {
      return findModule(supervisor, id).load(models, signal)
    },

    offload(id: string, models: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
      return findModule(supervisor, id).offload(models, signal)
    },
  }
}

export interface ModelServiceOptions {
  readonly supervisor: Supervisor
  /** The view of a module that is there. */
  readonly module: (id: string) => ModuleView
}

export function createModelService({ supervisor, module: moduleOf }: ModelServiceOptions) {
  const get = (name: string): ModelView => {
    const { desired } = supervisor
    const model = desired.aliases.get(name) ?? name
    const definition = desired.models.get(model)
    const error = desired.modelErrors.get(name)
    if (!definition) throw error ?? noSuchModel(name, desired.models.keys())
    const record = supervisor.records.get(definition.module)
    if (record?.writer && !error) return modelView(definition, record.writer.state)
    const missing = new BerthError('MODULE_NOT_FOUND', `Its module ${definition.module} is not there (yet).`, {
      module: definition.module,
      model,
    })
    const reason = error ?? record?.desired.error ?? missing
    return {
      name,
      module: definition.module,
      state: 'failed',
      replicas: [],
      queued: 0,
      inflight: 0,
      error: reason.toBody(),
    }
  }

  return {
    get,
    resolve(name: string): { readonly model: string; readonly module?: string } {
      const { aliases, models } = supervisor.desired
      const model = aliases.get(name) ?? name
      const module = models.get(model)?.module
      return module === undefined ? { model } : { model, module }
    },
    list: (): readonly ModelView[] => {
      const { models, aliases, modelErrors } = supervisor.desired
      const names = new Set([...models.keys(), ...aliases.keys(), ...modelErrors.keys()])
      return [...names].sort().map((name) => {
        if (models.has(aliases.get(name) ?? name)) return { ...get(name), name }
        return unserved(supervisor, name)
      })
    },

    /** Without `wait` the load goes on after the answer; its failure shows in the module's error. */
    async load(
      name: string,
      { wait, signal, caller }: ActionOptions & { readonly caller: string },
    ): Promise<ModuleView> {
      const { module, model, writer, maxInflight } = findModel(supervisor, name)
      const done = writer.ensureLoaded({
        model,
        maxInflight,
        caller,
        priority: 'normal',
        signal: wait ? signal : new AbortController().signal,
      })
      if (wait) await done
      else done.catch(() => {})
      return moduleOf(module)
    },

    async offload(name: string, { wait, signal }: ActionOptions): Promise<ModuleView> {
      const { module, model, writer } = findModel(supervisor, name)
      const done = writer.offload([model], wait ? signal : new AbortController().signal)
      if (wait) await done
      else done.catch(() => {})
      return moduleOf(module)
    },
  }
}

function unserved(supervisor: Supervisor, name: string): ModelView {
  const error = supervisor.desired.modelErrors.get(name)
  const module = typeof error?.details.module === 'string' ? error.details.module : ''
  return {
    name,
    module,
    state: 'failed',
    replicas: [],
    queued: 0,
    inflight: 0,
    ...(error ? { error: error.toBody() } : {}),
  }
}

function failureOf(state: Readonly<ModuleState>): BerthError | undefined {
  if (state.preparation.state === 'failed') return state.preparation.error
  for (const replica of state.replicas.values()) {
    // One that had failed before a restart was asked for says nothing about the restart.
    if (replica.state === 'failed' && !replica.toRestart) return replica.error
  }
  return undefined
}

function isPrepared(state: Readonly<ModuleState>): boolean {
  // Somebody else's needs no preparation: those that run are looked at.
  if (state.definition.external) return [...state.replicas.values()].every((replica) => replica.state !== 'absent')
  return state.preparation.state === 'done'
}

/** As many replicas as are always wanted are up, and none is there that is too much. */
function isScaled(state: Readonly<ModuleState>): boolean {
  const { min, max } = state.definition.manifest.scale
  const replicas = [...state.replicas.values()]
  const there = replicas.filter((replica) => replica.state !== 'absent' && replica.state !== 'failed')
  return replicas.filter(isUp).length >= min && there.length <= max
}

function isRunningAnew(state: Readonly<ModuleState>): boolean {
  const live = [...state.replicas.values()].filter(isLive)
  return live.every((replica) => !replica.toRestart) && live.some(isUp)
}
