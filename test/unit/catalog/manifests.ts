import { join } from 'node:path'
import { createFileDigests } from '../../../orchestrator/catalog/files.ts'
import { readModuleFolder } from '../../../orchestrator/catalog/module-folder.ts'
import type { ModuleSettings } from '../../../orchestrator/config/config.ts'
import type { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { ModuleManifest } from '../../../orchestrator/domain/manifest.ts'
import { caught } from '../../support/caught.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'

/** Files of one module, read in a modules folder of its own. */
export interface GivenModule {
  readonly files: Readonly<Record<string, string>>
  readonly name?: string
  readonly settings?: ModuleSettings
  /** Files beside the module's folder. */
  readonly beside?: Readonly<Record<string, string>>
}

export function manifestOf(given: GivenModule): Promise<ModuleManifest> {
  const { files, name = 'm', settings, beside = {} } = given
  const modules = tempFolder(beside)
  writeFiles(join(modules, name), files)
  return readModuleFolder(join(modules, name), {
    digests: createFileDigests(),
    settings: settings === undefined ? {} : { [name]: settings },
    defaults: {},
  })
}

export function errorOf(given: GivenModule): Promise<BerthError> {
  return caught(() => manifestOf(given))
}
