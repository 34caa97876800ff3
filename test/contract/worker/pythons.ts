import { execFileSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

export interface Python {
  readonly path: string
  /** Such as `3.12`. */
  readonly version: string
}

/** Every Python from 3.9 to 3.14 of this machine, one of each minor version; `python3` of the path is first. */
export function findPythons(): readonly Python[] {
  const named = ['python3', ...Array.from({ length: 6 }, (_, index) => `python3.${9 + index}`)]
  const found = new Map<string, Python>()
  for (const path of [...named, ...pyenvInterpreters()]) {
    const version = versionOf(path)
    if (version !== undefined && !found.has(version)) found.set(version, { path, version })
  }
  return [...found.values()]
}

function pyenvInterpreters(): readonly string[] {
  const versions = join(process.env.PYENV_ROOT ?? join(homedir(), '.pyenv'), 'versions')
  try {
    return readdirSync(versions).map((name) => join(versions, name, 'bin', 'python3'))
  } catch {
    return []
  }
}

function versionOf(path: string): string | undefined {
  try {
    const program = 'import sys; print("%d.%d" % sys.version_info[:2])'
    const answer = execFileSync(path, ['-c', program], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
    const [major, minor] = answer.trim().split('.').map(Number)
    return major === 3 && minor !== undefined && minor >= 9 && minor <= 14 ? answer.trim() : undefined
  } catch {
    return undefined
  }
}
