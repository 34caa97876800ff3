import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { installVariable, uvVariable } from '../constants.ts'
import type { EnvironmentMarker, InstallFailure, InstallOrder } from '../protocol.ts'
import { messageOf } from './errors.ts'
import { installEnvironment, interpreter } from './install/environment.ts'
import { diskFull, diskFullMessage, InstallError } from './install/failure.ts'
import { canLink, emptyFolder, isComplete, sizeOf, writeMarker } from './install/folder.ts'
import { readOrder } from './install/order.ts'
import { createPrograms, type Programs } from './install/program.ts'
import { findPython } from './install/python.ts'
import { installerVariables } from './install/variables.ts'
import { createLogSink, type LogSink } from './log-output.ts'

/**
 * The environment installer: reads one InstallOrder from BERTH_INSTALL, fills its folder, writes the marker last, and ends
 * with 0; or with 1 and an InstallFailure line, and leaves the folder empty.
 */
const flushMs = 5_000

await main()

async function main(): Promise<void> {
  const log = createLogSink(1)
  const programs = createPrograms(log)
  process.on('exit', () => programs.kill())
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => process.exit(1))
  let order: InstallOrder | undefined
  try {
    order = readOrder(process.env[installVariable])
    if (!(await isComplete(order.folder, order.key))) await install(order, programs, log)
  } catch (error) {
    if (order !== undefined) await emptyFolder(order.folder).catch(() => {})
    log.writeLine({ failure: describe(error) } satisfies InstallFailure)
    process.exitCode = 1
  }
  await log.flush(flushMs)
  process.exit()
}

async function install(order: InstallOrder, programs: Programs, log: LogSink): Promise<void> {
  await emptyFolder(order.folder)
  const uv = findUv(process.env)
  const [links, python] = await Promise.all([
    canLink(order.cache, order.folder),
    findPython(programs, order.python, process.env),
  ])
  const env = installerVariables(process.env, { order, uv, copy: !links })
  log.write('info', 'installer', `Python ${python.version}, with ${uv === undefined ? 'pip' : 'uv'}`)
  const installer = await installEnvironment({ order, python, uv, env, programs, log })
  const marker: EnvironmentMarker = {
    key: order.key,
    pythonVersion: python.version,
    installer,
    python: interpreter,
    createdAt: new Date().toISOString(),
    bytes: sizeOf(order.folder),
  }
  await writeMarker(order.folder, marker)
}

/** The uv that is named, or the one on the path. */
function findUv(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const folders = (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  const candidates = [env[uvVariable], ...folders.map((folder) => join(folder, 'uv'))]
  return candidates.find((path) => path !== undefined && path !== '' && isProgram(path))
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

function describe(error: unknown): InstallFailure['failure'] {
  const message = messageOf(error)
  if (error instanceof InstallError) return { message, lines: error.lines }
  return { message: diskFull(message) ? diskFullMessage : message, lines: [] }
}
