import { createHash } from 'node:crypto'
import { lstat, mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'

/** Where the embedded engine keeps things inside the data folder. */
export interface ProcessPaths {
  readonly environments: string
  readonly downloads: string
  readonly models: string
  readonly modules: string
  readonly tools: string
  readonly compiled: string
}

export function processPaths(dataDirectory: string): ProcessPaths {
  return {
    environments: join(dataDirectory, 'environments'),
    downloads: join(dataDirectory, 'cache', 'downloads'),
    models: join(dataDirectory, 'cache', 'models'),
    modules: join(dataDirectory, 'modules'),
    tools: join(dataDirectory, 'tools'),
    compiled: join(dataDirectory, 'cache', 'node'),
  }
}

/** Writable and lasting, for one module; ids that are no plain file name get one. */
export function moduleData(paths: ProcessPaths, module: string): string {
  return join(paths.modules, /^[A-Za-z0-9_][\w.-]*$/.test(module) ? module : `id-${shortHash(module)}`)
}

/** A Unix socket's path may have 107 bytes on Linux, 103 on macOS; the runner puts `.worker` behind ours for its own. */
const longestSocketPath = 103 - '.worker'.length
const socketName = (replica: string, generation: number): string => `${shortHash(`${replica} ${generation}`)}.sock`
const room = socketName('', 0).length + 1

export function socketPath(runDirectory: string, replica: string, generation: number): string {
  return join(runDirectory, socketName(replica, generation))
}

/** The socket, and what the runner makes beside it and can't remove when it is killed. */
export function socketFiles(socket: string): readonly string[] {
  return [socket, `${socket}.worker`, `${socket}.json`]
}

/**
 * A folder of this user alone for the sockets: `<data>/run`, or one with a short path where that is too long. Made if
 * it is not there; one that somebody else made first is not used.
 */
export async function makeRunDirectory(dataDirectory: string, runtimeDirectory: string | undefined): Promise<string> {
  const inData = join(dataDirectory, 'run')
  if (Buffer.byteLength(inData) + room <= longestSocketPath) {
    await mkdir(inData, { recursive: true, mode: 0o700 })
    return inData
  }
  const name = `berth-${shortHash(dataDirectory)}`
  for (const parent of [runtimeDirectory, tmpdir(), '/tmp']) {
    if (parent === undefined || Buffer.byteLength(parent) + 1 + name.length + room > longestSocketPath) continue
    const folder = join(parent, name)
    await mkdir(folder, { mode: 0o700 }).catch(() => undefined)
    if (await isPrivate(folder)) return folder
  }
  return await mkdtemp('/tmp/berth-')
}

async function isPrivate(folder: string): Promise<boolean> {
  const found = await lstat(folder).catch(() => undefined)
  return found?.isDirectory() === true && found.uid === userInfo().uid && (found.mode & 0o077) === 0
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}
