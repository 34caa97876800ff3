import { readFile, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { ModuleSettings } from '../config/config.ts'
import { moduleIdPattern } from '../config/module-fields.ts'
import { nearest } from '../config/nearest.ts'
import { BerthError, type ErrorDetails } from '../domain/errors.ts'
import type { ModuleBase, ModuleManifest } from '../domain/manifest.ts'
import { assembleManifest, type CatalogDefaults } from './assemble.ts'
import { type FileDigests, type FileStamp, listFiles, TooManyFiles } from './files.ts'
import { type ModuleYaml, readModuleYaml } from './module-yaml.ts'
import { enabledReactoryModule } from './reactory.ts'
import { readRequirements } from './requirements.ts'

/** Everything that reading a folder depends on beside its files. */
export interface FolderContext {
  readonly digests: FileDigests
  /** `module_settings` by module id. */
  readonly settings: Readonly<Record<string, ModuleSettings>>
  readonly defaults: CatalogDefaults
  /** What a scan has already listed. */
  readonly files?: readonly FileStamp[]
}

const entries = ['service.py', 'serv.py']
const yamlName = 'module.yaml'
const yamlLimit = 1024 * 1024

/**
 * A folder as a module. Throws a BerthError that names module, file, field and remedy: MANIFEST_INVALID, or
 * ENGINE_UNSUPPORTED for formats that are recognised and not supported.
 */
export async function readModuleFolder(folder: string, context: FolderContext): Promise<ModuleManifest> {
  const name = basename(folder)
  checkName(name, folder)
  const files = context.files ?? (await list(folder, name))
  const has = (path: string) => files.some((file) => file.path === path)
  const yaml = has(yamlName) ? await readYaml(folder, name) : {}
  const id = yaml.id ?? name
  const settings = (Object.hasOwn(context.settings, id) ? context.settings[id] : undefined) ?? {}
  const details = { module: id, file: folder }

  const entry = entries.find(has)
  if (entry === undefined) await refuseOtherFormats(folder, files, details)
  const base = await chooseBase({ folder, yaml, settings, entry, has, details })
  if (base === undefined) throw noModule(folder, files, details)
  try {
    return assembleManifest({
      id,
      format: entry === undefined ? 'image' : 'service',
      source: { kind: 'folder', path: folder },
      base,
      ...(entry === undefined ? {} : { entry }),
      requirements: await readRequirements({
        folder,
        files: entry === undefined ? [] : files,
        digests: context.digests,
        extra: [...(yaml.requirements ?? []), ...(settings.requirements ?? [])],
      }),
      yaml,
      settings,
      defaults: context.defaults,
      content: await context.digests.of(folder, files),
    })
  } catch (error) {
    throw unreadable(error, details)
  }
}

/** Also used for folders that are listed with the error of their name. */
export function checkName(name: string, folder: string): void {
  if (new RegExp(moduleIdPattern).test(name)) return
  const why = /\s/.test(name)
    ? 'has a space in its name, which no Python package can have'
    : 'has a name that containers and Python packages can not have'
  const better = name.replace(/[^A-Za-z0-9_.-]+/g, '_').slice(0, 63)
  throw new BerthError(
    'MANIFEST_INVALID',
    `The module folder "${name}" ${why}: rename it, for example to "${better}".`,
    {
      module: name,
      file: folder,
      remedy: `Rename the folder: at most 63 letters, digits, "_", "-" and ".", for example "${better}".`,
    },
  )
}

async function list(folder: string, id: string): Promise<readonly FileStamp[]> {
  try {
    return await listFiles(folder)
  } catch (error) {
    throw unreadable(error, { module: id, file: folder })
  }
}

/** Why the files of a folder could not be read, as an error of that module. */
export function unreadable(
  error: unknown,
  details: ErrorDetails & { readonly module: string; readonly file: string },
): BerthError {
  if (error instanceof BerthError) return error
  const message = error instanceof Error ? error.message : String(error)
  const remedy =
    error instanceof TooManyFiles
      ? 'Move data and environments out of the folder; what the module downloads belongs into its data folder.'
      : 'Make the folder and its files readable for the user that Berth runs as.'
  return new BerthError(
    'MANIFEST_INVALID',
    `The folder of module ${details.module} can't be read: ${message}. ${remedy}`,
    { ...details, remedy },
    { cause: error },
  )
}

async function readYaml(folder: string, name: string): Promise<ModuleYaml> {
  const file = join(folder, yamlName)
  try {
    if ((await stat(file)).size > yamlLimit) throw new Error('it is larger than 1 MiB')
    return readModuleYaml(await readFile(file, 'utf8'), {
      file: `${name}/${yamlName}`,
      subject: `${yamlName} of module ${name}`,
      details: { module: name },
    })
  } catch (error) {
    throw unreadable(error, { module: name, file })
  }
}

interface BaseInput {
  readonly folder: string
  readonly yaml: ModuleYaml
  readonly settings: ModuleSettings
  readonly entry: string | undefined
  readonly has: (path: string) => boolean
  readonly details: ErrorDetails
}

/** undefined when neither a service nor an image is there. */
async function chooseBase({ folder, yaml, settings, entry, has, details }: BaseInput): Promise<ModuleBase | undefined> {
  const image = settings.image ?? yaml.image
  if (image !== undefined) return { kind: entry === undefined ? 'protocol' : 'image', image }
  if (yaml.dockerfile !== undefined) {
    const dockerfile = yaml.dockerfile.replace(/^\.\//, '')
    if (entry === undefined) {
      throw new BerthError(
        'MANIFEST_INVALID',
        `${yamlName} of module ${String(details.module)} names a dockerfile, and there is no service.py to run in it.`,
        {
          ...details,
          file: join(folder, yamlName),
          field: 'dockerfile',
          remedy: 'Add a service.py, or build an image that speaks the runner protocol and name it with `image`.',
        },
      )
    }
    if (has(dockerfile)) return { kind: 'dockerfile', dockerfile, context: folder }
    throw new BerthError(
      'MANIFEST_INVALID',
      `${yamlName} of module ${String(details.module)} names the dockerfile "${yaml.dockerfile}", which is not there.`,
      { ...details, file: join(folder, yamlName), field: 'dockerfile', remedy: 'Add the file, or correct its path.' },
    )
  }
  return entry === undefined ? undefined : { kind: 'default' }
}

async function refuseOtherFormats(folder: string, files: readonly FileStamp[], details: ErrorDetails): Promise<void> {
  const has = (path: string) => files.some((file) => file.path === path)
  const block = has('info.json') && has('__init__.py')
  const format = block
    ? 'block'
    : (await enabledReactoryModule(dirname(folder), basename(folder)))
      ? 'reactory'
      : undefined
  if (format === undefined) return
  throw new BerthError(
    'ENGINE_UNSUPPORTED',
    `Module ${String(details.module)} is a ${format} module: this format is not supported yet, only service and image modules are.`,
    { ...details, format, remedy: 'Move the folder out of the modules folder, or give it a service.py.' },
  )
}

function noModule(folder: string, files: readonly FileStamp[], details: ErrorDetails): BerthError {
  const top = files.map(({ path }) => path).filter((path) => !path.includes('/'))
  const typo = top.find((name) => nearest(name, entries) !== undefined)
  const deeper = files.find(({ path }) => /^[^/]+\/(service|serv)\.py$/.test(path))
  const hint =
    typo !== undefined
      ? `Did you mean "${nearest(typo, entries)}" by "${typo}"?`
      : deeper !== undefined
        ? `There is one in ${dirname(deeper.path)}: move that folder up.`
        : `Add a service.py, or a module.yaml that names an image.`
  return new BerthError(
    'MANIFEST_INVALID',
    `The folder ${basename(folder)} is no module: it has no service.py (or serv.py). ${hint}`,
    {
      ...details,
      remedy: hint,
    },
  )
}
