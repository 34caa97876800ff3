import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { markerName } from '../../constants.ts'
import type { RunnerConfiguration } from '../../protocol.ts'
import { isRecord, messageOf, RunnerError, systemCode } from '../errors.ts'
import { writeExact } from '../exact-json.ts'

/** What a worker needs before it starts: its interpreter, its folders and its configuration file. */
export interface WorkerFiles {
  readonly module: RunnerConfiguration
  readonly configFile: string
  /** ServiceConfiguration: the default file with the user's merged over it, or null. */
  readonly serviceConfiguration: () => Promise<unknown>
}

/** A file, because one environment variable can't hold more than 128 KiB. */
export async function writeConfiguration({ module, configFile, serviceConfiguration }: WorkerFiles): Promise<void> {
  const text = writeExact({
    id: module.id,
    entry: module.entry,
    modulePath: module.paths.module,
    dataPath: module.paths.data,
    cachePath: module.paths.cache,
    models: module.models,
    serviceConfiguration: await serviceConfiguration(),
    calls: module.calls,
    callMs: module.callMs,
  })
  await mkdir(join(module.paths.data, 'home'), { recursive: true })
  await rm(configFile, { force: true })
  await writeFile(configFile, text, { mode: 0o600 })
}

/** The environment's interpreter, the one that the engine names, or the machine's. Rejects with LOAD_FAILED. */
export async function interpreterOf({ id, paths }: RunnerConfiguration): Promise<string> {
  if (paths.environment === undefined) return paths.python ?? 'python3'
  const path = join(paths.environment, markerName)
  const marker: unknown = await readFile(path, 'utf8').then(JSON.parse, () => undefined)
  if (isRecord(marker) && typeof marker.python === 'string') return join(paths.environment, marker.python)
  throw new RunnerError('LOAD_FAILED', `The environment of module ${id} is incomplete: ${path} can't be read.`, {
    module: id,
    file: path,
    remedy: 'restart the module: its environment is then installed again',
  })
}

/** `error`: the system's, from the attempt. */
export function cannotStart({ id }: RunnerConfiguration, python: string, error: unknown): RunnerError {
  const reason = systemCode(error) === 'ENOENT' ? 'it is not there' : messageOf(error)
  return new RunnerError('LOAD_FAILED', `Python can't be started for module ${id}: ${python}: ${reason}.`, {
    module: id,
    field: 'python',
    remedy: 'use a base image that has Python 3, or install the environment again',
  })
}
