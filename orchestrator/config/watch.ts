import { statSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { type BerthError, toBerthError } from '../domain/errors.ts'
import type { Config } from './config.ts'
import { reason } from './interpolate.ts'
import { type ConfigSource, configFile, loadConfig } from './load.ts'

export interface ConfigWatcherOptions {
  readonly source: ConfigSource
  readonly current: Config
  /** A configuration without problems that differs from the one before. */
  readonly onChange: (config: Config) => void
  /** The file was saved with problems: the configuration before stays. */
  readonly onProblem: (error: BerthError) => void
  readonly intervalMs?: number
}

/**
 * Looks at `berth.yaml` every second, by its state and not by events: editors replace files, and mounted ones send no
 * events. A file that appears or goes away counts too. The returned function ends it.
 */
export function watchConfig({
  source,
  current,
  onChange,
  onProblem,
  intervalMs = 1_000,
}: ConfigWatcherOptions): () => void {
  const file = configFile(source)
  let known = current
  let state: string | undefined
  const look = (): void => {
    const found = stateOf(file)
    if (found === state) return
    state = found
    try {
      const config = loadConfig(source)
      if (isDeepStrictEqual(config, known)) return
      known = config
      onChange(config)
    } catch (error) {
      onProblem(toBerthError(error))
    }
  }
  const timer = setInterval(look, intervalMs)
  timer.unref()
  return () => clearInterval(timer)
}

/** Differs whenever the file was written, replaced or removed. */
function stateOf(file: string): string {
  try {
    const info = statSync(file, { bigint: true })
    return [info.ino, info.size, info.mtimeNs, info.ctimeNs].join(' ')
  } catch (error) {
    return reason(error)
  }
}

/** Keys that only a restart of Berth applies. */
const fixed = [
  'listen',
  'engine',
  'modules',
  'data',
  'auth',
  'adminKey',
  'bodyLimitBytes',
  'allowedHosts',
  'docker',
  'instance',
] as const

/** Which of the changes between two configurations wait for a restart. */
export function changesForRestart(before: Config, after: Config): readonly string[] {
  return fixed.filter((key) => !isDeepStrictEqual(before[key], after[key]))
}
