import { readFileSync, statSync } from 'node:fs'
import { dirname, isAbsolute, relative, resolve } from 'node:path'
import { parseListen } from './address.ts'
import type { Config } from './config.ts'
import { readDocument, type YamlDocument } from './document.ts'
import { type Environment, readAdminKey, readOverrides } from './environment.ts'
import { deepFreeze } from './freeze.ts'
import { reason } from './interpolate.ts'
import { readConfiguredModels, readModuleSettings } from './models.ts'
import { bytes, defined, milliseconds } from './module-fields.ts'
import { type FieldPath, fieldName, type Problem, problemsError } from './problems.ts'
import { checkRules } from './rules.ts'
import { ConfigDocument } from './schema.ts'
import { isObject, validate, withoutEmpty } from './validate.ts'

/** Where configuration comes from. */
export interface ConfigSource {
  readonly env: Environment
  /** Folder that a relative BERTH_CONFIG, and paths in variables, start from. */
  readonly cwd: string
}

const defaultListen = { host: '127.0.0.1', port: 8080 }

/** A larger file is no configuration. */
const sizeLimit = 4 * 1024 * 1024

/**
 * Reads `berth.yaml` (or what BERTH_CONFIG names) and the environment. Throws one CONFIG_INVALID whose
 * `details.problems` says everything that is wrong. Without a file the defaults hold.
 */
export function loadConfig(source: ConfigSource): Config {
  const file = configFile(source)
  const folder = dirname(file)
  const text = readText(file, source)
  const document = readDocument(text ?? '', {
    file: named(file, source.cwd),
    substitutions: { env: source.env, folder },
    textAt: (path) => path[0] === 'module_settings' && (path[2] === 'env' || path[2] === 'python'),
  })
  const problems = [...document.problems]
  const reporter = createReporter(document, problems)

  const root = document.readable ? document.value : undefined
  const value = withoutEmpty(ConfigDocument, applyOverrides(root, source.env, reporter))
  const adminKey = readAdminKey(source.env, source.cwd)
  problems.push(...adminKey.problems)
  validate(ConfigDocument, value, reporter.report)
  checkRules(value, adminKey.key !== undefined || adminKey.problems.length > 0, reporter.report)
  if (problems.length > 0) throw problemsError('CONFIG_INVALID', 'The configuration', unique(problems))

  const written = value as ConfigDocument
  return deepFreeze({
    ...(text === undefined ? {} : { file }),
    ...plainPart(written, folder, source),
    listen: parseListen(written.listen ?? '') ?? defaultListen,
    auth: written.auth ?? (adminKey.key === undefined ? 'none' : 'keys'),
    ...(adminKey.key === undefined ? {} : { adminKey: adminKey.key }),
    models: readConfiguredModels(written, document),
    moduleSettings: readModuleSettings(written, document),
  })
}

function plainPart(
  written: ConfigDocument,
  folder: string,
  source: ConfigSource,
): Omit<Config, 'listen' | 'auth' | 'models' | 'moduleSettings'> {
  const { docker } = written
  const path = (value: string, variable: string): string =>
    isAbsolute(value) ? value : resolve(source.env[variable] ? source.cwd : folder, value)
  return {
    engine: written.engine ?? 'auto',
    modules: path(written.modules ?? './modules', 'BERTH_MODULES'),
    data: path(written.data ?? './.berth', 'BERTH_DATA'),
    allowedHosts: written.allowed_hosts ?? [],
    shutdown: written.shutdown ?? 'keep',
    bodyLimitBytes: bytes(written.body_limit) ?? 64 * 1024 * 1024,
    logLevel: written.log_level ?? 'info',
    queue: { limit: written.queue?.limit ?? 64, timeoutMs: milliseconds(written.queue?.timeout) ?? 60_000 },
    docker: {
      baseImage: docker?.base_image ?? 'python:3.13-slim-trixie',
      ...defined({ runnerImage: docker?.runner_image }),
      subnets: docker?.subnets ?? ['10.213.0.0/16'],
      subnetPrefix: docker?.subnet_prefix ?? 28,
    },
    reload: written.reload ?? true,
    ...defined({
      memoryBytes: written.memory === 'none' ? Number.POSITIVE_INFINITY : bytes(written.memory),
      instance: written.instance,
    }),
  }
}

/** `berth.yaml` rather than its whole path where it lies in the working directory. */
function named(file: string, cwd: string): string {
  const short = relative(cwd, file)
  return short.startsWith('..') || isAbsolute(short) ? file : short
}

/** The file that is read, whether it is there or not: what a watcher has to look at. */
export function configFile(source: ConfigSource): string {
  return resolve(source.cwd, source.env.BERTH_CONFIG || 'berth.yaml')
}

/** undefined when there is none and none was asked for. */
function readText(file: string, source: ConfigSource): string | undefined {
  const failure = (message: string) =>
    problemsError('CONFIG_INVALID', 'The configuration', [{ file: named(file, source.cwd), field: '', message }])
  let size: number
  try {
    size = statSync(file).size
    if (size <= sizeLimit) return readFileSync(file, 'utf8')
  } catch (error) {
    const code = reason(error)
    if (code === 'ENOENT' && !source.env.BERTH_CONFIG) return undefined
    if (code === 'ENOENT')
      throw failure('this file is not there: correct BERTH_CONFIG, or leave it unset for the defaults')
    throw failure(`this can't be read (${code}): give Berth a file that it may read`)
  }
  throw failure(`${size} bytes are too many for a configuration: BERTH_CONFIG seems to name another file`)
}

interface Reporter {
  readonly report: (path: FieldPath, message: string, at?: 'key' | 'value') => void
  /** From here on the key was given by this variable. */
  markVariable(path: FieldPath, variable: string): void
}

/** Reports a field at its place in the file, or at the variable that overrode it. */
function createReporter(document: YamlDocument, problems: Problem[]): Reporter {
  const variables = new Map<string, string>()
  /** What has no value because of its variable is not reported again for having none. */
  const broken = new Set(document.problems.map(({ field }) => field).filter((field) => field !== ''))
  return {
    report(path, message, at = 'value') {
      const variable = variables.get(path.slice(0, 2).join('.')) ?? variables.get(path[0] ?? '')
      if (variable === undefined && broken.has(fieldName(path))) return
      if (variable === undefined) problems.push(document.problem(path, message, at))
      else problems.push({ file: 'environment', field: variable, message })
    },
    markVariable: (path, variable) => variables.set(path.join('.'), variable),
  }
}

function applyOverrides(root: unknown, env: Environment, reporter: Reporter): unknown {
  if (root !== undefined && !isObject(root)) return root
  const result: Record<string, unknown> = { ...root }
  for (const { variable, path, value } of readOverrides(env)) {
    const [key, inner] = path
    if (key === undefined) continue
    reporter.markVariable(path, variable)
    if (inner === undefined) result[key] = value
    else result[key] = { ...(isObject(result[key]) ? result[key] : {}), [inner]: value }
  }
  return result
}

function unique(problems: readonly Problem[]): readonly Problem[] {
  const seen = new Set<string>()
  return problems.filter((problem) => {
    const key = JSON.stringify(problem)
    return !seen.has(key) && seen.add(key)
  })
}
