import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isRecord, messageOf, RunnerError, systemCode } from './errors.ts'
import { exactFloat, exactInteger } from './exact-json.ts'

/**
 * ServiceConfiguration: a service folder's default YAML file with the user's configuration merged over it.
 * (docs/module-formats.md, "injected")
 */
export const defaultFiles = ['default_service_configuration.yaml', 'default_config.yaml'] as const

/** Null when there is neither a default file nor a user's configuration. Throws MANIFEST_INVALID naming file and line. */
export async function serviceConfiguration(folder: string, user: unknown): Promise<unknown> {
  for (const file of defaultFiles) {
    const text = await readText(join(folder, file))
    if (text === undefined) continue
    const defaults = await parseYaml(text, file)
    return user === undefined ? defaults : merge(defaults, user)
  }
  return user ?? null
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw new RunnerError('MANIFEST_INVALID', `${path} can't be read: ${messageOf(error)}`, { file: path })
  }
}

/**
 * YAML 1.1, which is what PyYAML reads and so what these files are written for: `yes` is true, `010` is eight. The YAML
 * library is loaded here only, because most modules have no such file.
 */
async function parseYaml(text: string, file: string): Promise<unknown> {
  const { parseDocument, visit } = await import('yaml')
  const document = parseDocument(text, { version: '1.1', uniqueKeys: false, intAsBigInt: true })
  const [problem] = document.errors
  if (problem !== undefined) {
    const line = problem.linePos?.[0].line
    throw new RunnerError('MANIFEST_INVALID', `${file} is not valid YAML: ${problem.message}`, {
      file,
      ...(line === undefined ? {} : { line }),
      remedy: `correct ${file} in the module's folder`,
    })
  }
  visit(document, {
    Scalar(_key, scalar) {
      const { value } = scalar
      if (typeof value === 'bigint' && !Number.isSafeInteger(Number(value))) scalar.value = exactInteger(String(value))
      else if (typeof value === 'bigint') scalar.value = Number(value)
      else if (Number.isNaN(value)) {
        throw new RunnerError('MANIFEST_INVALID', `${file}: .nan can't be passed to a module.`, { file })
      } else if (typeof value === 'number') scalar.value = exactFloat(value)
      else if (typeof value === 'boolean' && scalar.source?.length === 1) scalar.value = scalar.source // PyYAML's `y` and `n`
    },
  })
  return document.toJS()
}

/** Mappings are merged key by key; everything else, lists included, is replaced. */
function merge(below: unknown, above: unknown): unknown {
  if (!isMapping(below) || !isMapping(above)) return above
  const merged: Record<string, unknown> = Object.assign(Object.create(null), below)
  for (const [key, value] of Object.entries(above)) merged[key] = key in merged ? merge(merged[key], value) : value
  return merged
}

/** A number that keeps its text is an object as well, a frozen one. */
function isMapping(value: unknown): value is Record<string, unknown> {
  return isRecord(value) && !Object.isFrozen(value)
}
