import { InstallError } from './failure.ts'
import type { Programs, Variables } from './program.ts'

/** The interpreter that an environment is made with. */
export interface Python {
  readonly path: string
  /** `3.13.1` */
  readonly version: string
}

/** As little as can be: an interpreter starts several times faster than it loads `json`, `platform` and `site`. */
const question = ['-S', '-c', 'import sys; print(sys.executable); print(sys.version.split()[0])']
const oldest = 9

/**
 * `wanted`: such as `3.12`; absent: the first Python 3 on the path. Rejects with what is there and what to do about it.
 */
export async function findPython(programs: Programs, wanted: string | undefined, env: Variables): Promise<Python> {
  const names = wanted === undefined ? ['python3', 'python'] : [`python${wanted}`, 'python3', 'python']
  const seen = new Map<string, string>()
  for (const name of names) {
    const python = await ask(programs, name, env)
    if (python === undefined) continue
    if (suits(python.version, wanted)) return python
    seen.set(python.path, `${python.version} (${python.path})`)
  }
  const there = seen.size === 0 ? 'there is no Python at all' : `there is ${[...seen.values()].join(', ')}`
  throw new InstallError(
    wanted === undefined
      ? `no Python 3.${oldest} or newer was found: ${there}. Use a base image that has one (\`image\` in module.yaml), or install it`
      : `Python ${wanted} is asked for and was not found: ${there}. Correct \`python\` in module.yaml, or name a base image that has it (\`image\`)`,
  )
}

async function ask(programs: Programs, name: string, env: Variables): Promise<Python | undefined> {
  const text = await programs.ask([name, ...question], env)
  const [path = '', version = ''] = text?.trim().split(/\r?\n/) ?? []
  return path === '' || version === '' ? undefined : { path, version }
}

/** `3.12` is meant by 3.12.4 too. */
function suits(version: string, wanted: string | undefined): boolean {
  if (wanted !== undefined) return version === wanted || version.startsWith(`${wanted}.`)
  const [major, minor] = version.split('.').map(Number)
  return major === 3 && (minor ?? 0) >= oldest
}
