import { delimiter, dirname } from 'node:path'
import { isJsonObject } from '../../domain/json.ts'
import { runProgram } from './run-program.ts'

/** A Python of this machine. */
export interface HostPython {
  /** Absolute: past pyenv's shims and the like. */
  readonly path: string
  /** `3.11.7` */
  readonly version: string
  /** What decides whether an environment made with it can be used: path, version and platform. */
  readonly identity: string
  /** It can make environments by itself; Debian leaves that to the package python3-venv. */
  readonly canMakeEnvironments: boolean
}

const question = `
import importlib.util, json, platform, sys, sysconfig
print(json.dumps({
    "path": sys.executable,
    "version": platform.python_version(),
    "platform": sysconfig.get_platform(),
    "venv": importlib.util.find_spec("venv") is not None and importlib.util.find_spec("ensurepip") is not None,
}))
`

/**
 * The first Python 3 on the path; with `wanted` (such as `3.12`) one of that version, or none.
 * Never rejects: what can't be run is none.
 */
export async function findPython(
  env: Readonly<Record<string, string>>,
  wanted: string | undefined,
): Promise<HostPython | undefined> {
  const names = wanted === undefined ? ['python3', 'python'] : [`python${wanted}`, 'python3', 'python']
  for (const name of names) {
    const python = await ask(name, env)
    if (python !== undefined && satisfies(python.version, wanted ?? '3')) return python
  }
  return undefined
}

/** `3.12` is satisfied by 3.12 and every 3.12.x. */
export function satisfies(version: string, wanted: string): boolean {
  return version === wanted || version.startsWith(`${wanted}.`)
}

/** PATH with this interpreter before all others. */
export function pathWith(python: HostPython, path: string | undefined): string {
  return [dirname(python.path), ...(path === undefined ? [] : [path])].join(delimiter)
}

async function ask(name: string, env: Readonly<Record<string, string>>): Promise<HostPython | undefined> {
  const { ok, stdout } = await runProgram(name, ['-c', question], { timeoutMs: 15_000, env })
  if (!ok) return undefined
  try {
    const answer: unknown = JSON.parse(stdout)
    if (!isJsonObject(answer)) return undefined
    const { path, version, platform, venv } = answer
    if (typeof path !== 'string' || path === '' || typeof version !== 'string') return undefined
    return { path, version, identity: `${path} ${version} ${String(platform)}`, canMakeEnvironments: venv === true }
  } catch {
    return undefined
  }
}
