import { nearest } from '../config/nearest.ts'
import { BerthError } from '../domain/errors.ts'
import type { ModelDefinition } from '../domain/manifest.ts'
import type { Lease, WaitOptions } from '../lifecycle/lease.ts'
import type { ModuleWriter } from '../lifecycle/module-writer.ts'
import type { Supervisor } from './supervisor.ts'

/** Finds who serves a model. Throws the error that says why nobody does. */

export interface FoundModel {
  readonly module: string
  readonly model: string
  readonly writer: ModuleWriter
  readonly maxInflight: number
  acquireNow(): Lease | undefined
  acquire(options: Omit<WaitOptions, 'model' | 'maxInflight'>): Promise<Lease>
}

export function moduleNotFound(id: string): BerthError {
  return new BerthError('MODULE_NOT_FOUND', `There is no module ${id}; see: berth ps`, { module: id })
}

export function findModule(supervisor: Supervisor, id: string): ModuleWriter {
  const record = supervisor.records.get(id)
  if (!record) throw moduleNotFound(id)
  if (record.writer) return record.writer
  throw (
    record.desired.error ??
    new BerthError('INTERNAL', `Module ${id} has neither a manifest nor an error.`, { module: id })
  )
}

/** A model by its name or alias, whichever module it belongs to. */
export function findModel(supervisor: Supervisor, name: string): FoundModel {
  const { desired } = supervisor
  const model = desired.aliases.get(name) ?? name
  const problem = desired.modelErrors.get(name) ?? desired.modelErrors.get(model)
  const definition = desired.models.get(model)
  if (problem) throw problem
  if (!definition) {
    // A module that can't be read offers no model: whoever asks for the one of its name is told why.
    const broken = supervisor.records.get(name)?.desired.error
    throw broken ?? noSuchModel(name, [...desired.models.keys(), ...desired.aliases.keys()])
  }
  if (!supervisor.records.has(definition.module)) {
    const message = `Model ${name} belongs to module ${definition.module}, which is not there (yet); put it into the modules folder or add its image.`
    throw new BerthError('MODULE_NOT_FOUND', message, { model: name, module: definition.module })
  }
  return found(findModule(supervisor, definition.module), definition)
}

export function noSuchModel(name: string, known: Iterable<string>): BerthError {
  const like = nearest(name, known)
  const hint = like === undefined ? 'see: berth models' : `did you mean ${like}?`
  return new BerthError('MODEL_NOT_FOUND', `There is no model ${name}; ${hint}`, { model: name })
}

/** A model of one module: one of its own, or one that an explicit load has named. */
export function findModelOf(supervisor: Supervisor, id: string, name: string): FoundModel {
  const writer = findModule(supervisor, id)
  const { definition, adhoc } = writer.state
  const model = supervisor.desired.aliases.get(name) ?? name
  const own = definition.models.get(model)
  if (own) return found(writer, own)
  if (adhoc.has(name)) return found(writer, { name, module: id, maxSimulUsers: definition.manifest.concurrency })
  const names = [...definition.models.keys(), ...adhoc.keys()].join(', ')
  throw new BerthError('MODEL_NOT_FOUND', `Module ${id} has no model ${name}; it has: ${names || 'none'}`, {
    module: id,
    model: name,
  })
}

function found(
  writer: ModuleWriter,
  { name, module, maxSimulUsers }: Pick<ModelDefinition, 'name' | 'module' | 'maxSimulUsers'>,
): FoundModel {
  return {
    module,
    model: name,
    writer,
    maxInflight: maxSimulUsers,
    acquireNow: () => writer.acquireNow(name, maxSimulUsers),
    acquire: (options) => writer.acquire({ model: name, maxInflight: maxSimulUsers, ...options }),
  }
}
