import { accessSync, constants, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** The files that runner and worker share while they run: the worker's socket and its configuration. */
export interface RuntimeFiles {
  readonly socket: string
  readonly configuration: string
  remove(): void
}

const containerFolder = '/run/berth'
/** A Unix socket's path can't be longer. */
const longestPath = 107

/**
 * Beside the runner's own socket, where there is one: whoever clears that away clears these away too. Else in a folder of
 * their own that only this user can enter.
 */
export function runtimeFiles(listen: { readonly socket: string } | { readonly port: number }): RuntimeFiles {
  if ('socket' in listen && listen.socket.length + '.worker'.length <= longestPath) {
    const socket = `${listen.socket}.worker`
    const configuration = `${listen.socket}.json`
    return { socket, configuration, remove: () => remove(socket, configuration) }
  }
  const folder = mkdtempSync(join(writable(containerFolder) ? containerFolder : tmpdir(), 'berth-'))
  return { socket: join(folder, 'worker'), configuration: join(folder, 'worker.json'), remove: () => remove(folder) }
}

function writable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

function remove(...paths: readonly string[]): void {
  for (const path of paths) rmSync(path, { recursive: true, force: true })
}
