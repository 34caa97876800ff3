import type { Config, ConfiguredModel } from '../config/config.ts'
import { modelLimits } from '../config/models.ts'
import { nearest } from '../config/nearest.ts'
import { BerthError } from '../domain/errors.ts'
import type { ModelDefinition, ModuleManifest } from '../domain/manifest.ts'

/** Which models there are, who serves them and what stands in the way. (module-formats, row "models") */
export interface ResolvedModels {
  /** By name, aliases left out; also those whose module is not there or broken: see `problems`. */
  readonly models: ReadonlyMap<string, ModelDefinition>
  /** Alias -> the model that it stands for in the end. */
  readonly aliases: ReadonlyMap<string, string>
  /** By name of a model or alias: why it can't be used. */
  readonly problems: ReadonlyMap<string, BerthError>
  /** The same problems by id of a module that they concern. */
  readonly moduleProblems: ReadonlyMap<string, readonly BerthError[]>
  /** The model that a name stands for. Throws its problem, or MODEL_NOT_FOUND naming the nearest one. */
  lookup(name: string): ModelDefinition
  /** Models that a module serves, in order. */
  ofModule(id: string): readonly ModelDefinition[]
}

/** `broken`: modules that are listed with an error and have no manifest. */
export function resolveModels(
  config: Pick<Config, 'models'>,
  manifests: Iterable<ModuleManifest>,
  broken: ReadonlyMap<string, BerthError> = new Map(),
): ResolvedModels {
  const modules = new Map([...manifests].map((manifest) => [manifest.id, manifest]))
  const models = new Map<string, ModelDefinition>()
  const redirects = new Map<string, string>()
  const problems = new Map<string, BerthError>()
  const moduleProblems = new Map<string, BerthError[]>()
  const note = (name: string, error: BerthError, concerned: Iterable<string>): void => {
    problems.set(name, error)
    for (const id of concerned) moduleProblems.set(id, [...(moduleProblems.get(id) ?? []), error])
  }

  for (const [name, entry] of Object.entries(config.models)) {
    if (entry.redirectTo !== undefined) redirects.set(name, entry.redirectTo)
    else if (entry.module !== undefined) models.set(name, define(name, entry.module, entry, modules.get(entry.module)))
  }
  for (const [name, owners] of offers(config, modules)) {
    if (Object.hasOwn(config.models, name)) continue
    if (owners.length > 1) {
      const ids = owners.map(({ id }) => id)
      note(name, twoOwners(name, ids), ids)
      continue
    }
    for (const manifest of owners) {
      const configuration = (Object.hasOwn(manifest.models, name) ? manifest.models[name] : undefined) ?? {}
      const target = configuration.redirect_to
      if (typeof target === 'string') redirects.set(name, target)
      else models.set(name, define(name, manifest.id, { ...modelLimits(configuration), configuration }, manifest))
    }
  }
  for (const { name, module } of models.values()) {
    if (modules.has(module)) continue
    const names = new Set([...modules.keys(), ...broken.keys()])
    note(name, broken.get(module) ?? moduleMissing(name, module, config.models[name], names), [])
  }
  const aliases = new Map<string, string>()
  for (const name of redirects.keys()) {
    const end = follow(name, redirects, models)
    if (typeof end === 'string') aliases.set(name, end)
    else note(name, end, [])
  }

  return {
    models,
    aliases,
    problems,
    moduleProblems,
    lookup(name) {
      const target = aliases.get(name) ?? name
      const problem = problems.get(name) ?? problems.get(target)
      if (problem !== undefined) throw problem
      const model = models.get(target)
      if (model === undefined) throw unknownModel(name, [...models.keys(), ...aliases.keys()])
      return model
    },
    ofModule: (id) => [...models.values()].filter((model) => model.module === id),
  }
}

/** Name -> modules that offer it themselves: by `module.yaml`, or by their own id where no model of theirs is named. */
function offers(config: Pick<Config, 'models'>, modules: ReadonlyMap<string, ModuleManifest>) {
  const named = new Set(Object.values(config.models).map(({ module }) => module))
  const owners = new Map<string, ModuleManifest[]>()
  for (const manifest of modules.values()) {
    const names = Object.keys(manifest.models)
    const offered = names.length > 0 ? names : named.has(manifest.id) ? [] : [manifest.id]
    for (const name of offered) owners.set(name, [...(owners.get(name) ?? []), manifest])
  }
  return owners
}

function define(
  name: string,
  module: string,
  entry: Pick<ConfiguredModel, 'configuration' | 'maxSimulUsers' | 'idleTtlMs'>,
  manifest: ModuleManifest | undefined,
): ModelDefinition {
  return {
    name,
    module,
    configuration: entry.configuration,
    maxSimulUsers: entry.maxSimulUsers ?? manifest?.concurrency ?? 1,
    idleTtlMs: entry.idleTtlMs ?? manifest?.idleTtlMs ?? Number.POSITIVE_INFINITY,
  }
}

/** The model at the end of a chain of aliases, or why there is none. */
function follow(
  start: string,
  redirects: ReadonlyMap<string, string>,
  models: ReadonlyMap<string, ModelDefinition>,
): string | BerthError {
  const chain = [start]
  for (;;) {
    const last = chain.at(-1) ?? start
    const next = redirects.get(last)
    if (next === undefined) {
      return models.has(last) ? last : aliasLeadsNowhere(start, last, [...models.keys(), ...redirects.keys()])
    }
    if (chain.includes(next)) return aliasCycle(start, [...chain.slice(chain.indexOf(next)), next])
    chain.push(next)
  }
}

function twoOwners(name: string, modules: readonly string[]): BerthError {
  const remedy = `Say in berth.yaml which one serves it: \`models: { "${name}": { module: ${modules[0]} } }\`, or rename it in one module.yaml.`
  return new BerthError(
    'DEPENDENCY_CONFLICT',
    `The model "${name}" is offered by the modules ${modules.join(' and ')}, so none of them serves it. ${remedy}`,
    { model: name, modules, field: `models.${name}`, remedy },
  )
}

function moduleMissing(
  name: string,
  module: string,
  entry: ConfiguredModel | undefined,
  known: Iterable<string>,
): BerthError {
  const near = nearest(module, known)
  const remedy = `Put the folder ${module} into the modules folder${near === undefined ? '' : `, or write \`module: ${near}\``}: the model works as soon as it is there.`
  return new BerthError(
    'MODULE_NOT_FOUND',
    `The model "${name}" is served by the module ${module}, which is not there. ${remedy}`,
    {
      model: name,
      module,
      field: `models.${name}.module`,
      ...(entry === undefined ? {} : { file: entry.location }),
      remedy,
    },
  )
}

function aliasLeadsNowhere(alias: string, target: string, known: readonly string[]): BerthError {
  const near = nearest(
    target,
    known.filter((name) => name !== alias),
  )
  const remedy = near === undefined ? `Add the model "${target}", or correct redirect_to.` : `Did you mean "${near}"?`
  return new BerthError(
    'MODEL_NOT_FOUND',
    `The model "${alias}" redirects to "${target}", which is no model. ${remedy}`,
    {
      model: alias,
      field: `models.${alias}.redirect_to`,
      remedy,
    },
  )
}

function aliasCycle(alias: string, cycle: readonly string[]): BerthError {
  const remedy = 'Let one of them name a module instead.'
  return new BerthError(
    'DEPENDENCY_CYCLE',
    `The model "${alias}" redirects in a circle: ${cycle.join(' -> ')}. ${remedy}`,
    {
      model: alias,
      cycle,
      field: `models.${alias}.redirect_to`,
      remedy,
    },
  )
}

function unknownModel(name: string, known: readonly string[]): BerthError {
  const near = nearest(name, known)
  const remedy = near === undefined ? '`berth models` lists the models that there are.' : `Did you mean "${near}"?`
  return new BerthError('MODEL_NOT_FOUND', `There is no model "${name}". ${remedy}`, { model: name, remedy })
}
