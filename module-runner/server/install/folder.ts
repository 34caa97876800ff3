import { lstatSync, readdirSync } from 'node:fs'
import { link, mkdir, open, readdir, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { markerName } from '../../constants.ts'
import type { EnvironmentMarker } from '../../protocol.ts'
import { isRecord } from '../errors.ts'

/** The environment's folder: complete when its marker is there, and worth nothing before. */

export async function isComplete(folder: string, key: string): Promise<boolean> {
  try {
    const marker: unknown = JSON.parse(await readFile(join(folder, markerName), 'utf8'))
    return isRecord(marker) && marker.key === key
  } catch {
    return false
  }
}

/** Removes what is in it, not the folder itself, which may be a mounted volume. */
export async function emptyFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const names = await readdir(folder)
  // The marker first: a folder that is being emptied must not look complete.
  await rm(join(folder, markerName), { force: true })
  await Promise.all(names.map((name) => rm(join(folder, name), { recursive: true, force: true })))
}

/** Last of all, and all at once: on the disk before it has its name. */
export async function writeMarker(folder: string, marker: EnvironmentMarker): Promise<void> {
  const making = join(folder, `.${markerName}.making`)
  const file = await open(making, 'w', 0o644)
  try {
    await file.writeFile(`${JSON.stringify(marker, null, 2)}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(making, join(folder, markerName))
  const parent = await open(folder, 'r')
  await parent.sync().finally(() => parent.close())
}

/** Can files of the cache be linked into the environment? Not across file systems, nor across mounts of one. */
export async function canLink(cache: string, folder: string): Promise<boolean> {
  await mkdir(cache, { recursive: true })
  const probe = `.berth-link-${process.pid}`
  try {
    await writeFile(join(cache, probe), '')
    await link(join(cache, probe), join(folder, probe))
    return true
  } catch {
    return false
  } finally {
    await rm(join(cache, probe), { force: true })
    await rm(join(folder, probe), { force: true })
  }
}

/** No environment fits into less. */
const leastBytes = 32 * 1024 * 1024

/** Is there no room for an environment on the folder's disk? */
export async function hasNoRoom(folder: string): Promise<boolean> {
  const { bavail, bsize } = await statfs(folder).catch(() => ({ bavail: Number.POSITIVE_INFINITY, bsize: 1 }))
  return bavail * bsize < leastBytes
}

/** What the files take together, in bytes. Thousands of small questions: asked one by one without waiting, a tenth of the time. */
export function sizeOf(folder: string): number {
  let bytes = 0
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) bytes += sizeOf(path)
    else if (entry.isFile()) bytes += lstatSync(path).size
  }
  return bytes
}
