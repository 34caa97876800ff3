import { extract } from 'tar-stream'
import type { Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'

/** A small file of a container, running or not; undefined when it is not there. Rejects when it is larger than `limit`. */
export async function readFileOf(
  daemon: Daemon,
  container: string,
  path: string,
  signal: AbortSignal,
  limit = 1024 * 1024,
): Promise<string | undefined> {
  let archive: Awaited<ReturnType<Daemon['getArchive']>>
  try {
    archive = await daemon.getArchive(container, path, signal)
  } catch (error) {
    if (isRefusal(error, 404)) return undefined
    throw error
  }
  const entries = archive.pipe(extract())
  archive.once('error', (error) => entries.destroy(error))
  try {
    for await (const entry of entries) {
      if (entry.header.type !== 'file') return undefined
      if ((entry.header.size ?? 0) > limit) throw new Error(`${path} is larger than ${limit} bytes`)
      const chunks: Buffer[] = []
      for await (const chunk of entry) chunks.push(chunk as Buffer)
      return Buffer.concat(chunks).toString()
    }
    return undefined
  } finally {
    archive.destroy()
  }
}
