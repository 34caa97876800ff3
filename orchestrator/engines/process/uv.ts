import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { access, mkdir, rename, rm } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { lockFile } from './exclusive-lock.ts'
import type { HostPython } from './python.ts'
import { downloadUv, installUv, type UvResult } from './uv-fetch.ts'

/** Environments are installed with uv where it can be had: many times faster than pip, and it needs no venv module. */
export const uvVersion = '0.13.8'

export interface UvOptions {
  /** `BERTH_UV` of the orchestrator's environment: a path. */
  readonly configured: string | undefined
  /** `<data>/tools` */
  readonly tools: string
  /** Variables for pip: index, proxies, certificates. */
  readonly env: Readonly<Record<string, string>>
  readonly python: HostPython | undefined
}

/**
 * The configured uv, the one on the path, or the one that an earlier call put into the data folder; else it is fetched
 * there once. Never rejects but for the signal: without uv there is pip.
 */
export async function findUv(
  options: UvOptions,
  signal: AbortSignal,
  onLine: (line: string) => void,
): Promise<UvResult> {
  const kept = join(options.tools, `uv-${uvVersion}`, 'uv')
  for (const candidate of [options.configured, ...onPath(options.env.PATH, 'uv'), kept]) {
    if (candidate !== undefined && (await isProgram(candidate))) return { path: candidate }
  }
  if (options.python === undefined) return { problem: 'there is no Python 3 to fetch it with' }
  await mkdir(options.tools, { recursive: true })
  const release = await lockFile(join(options.tools, 'uv.lock'), signal)
  try {
    if (await isProgram(kept)) return { path: kept }
    onLine(`Fetching uv ${uvVersion}, once for all modules`)
    return await fetchUv(options, options.python, kept, signal)
  } finally {
    release()
  }
}

async function fetchUv(options: UvOptions, python: HostPython, kept: string, signal: AbortSignal): Promise<UvResult> {
  const making = join(options.tools, `.making-${randomUUID()}`)
  try {
    const problems: string[] = []
    const ways = [...(python.canMakeEnvironments ? [installUv] : []), downloadUv]
    for (const way of ways) {
      await mkdir(making, { recursive: true })
      const made = await way({ python, version: uvVersion, folder: making, env: options.env, signal })
      signal.throwIfAborted()
      if ('path' in made && (await isProgram(made.path))) {
        await mkdir(join(kept, '..'), { recursive: true })
        await rename(made.path, kept)
        return { path: kept }
      }
      problems.push('problem' in made ? made.problem : 'the package holds no program')
      await rm(making, { recursive: true, force: true })
    }
    return { problem: problems.join('; ') }
  } finally {
    await rm(making, { recursive: true, force: true })
  }
}

function onPath(path: string | undefined, name: string): readonly string[] {
  return (path ?? '')
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
}

function isProgram(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  )
}
