import { readdirSync, readFileSync } from 'node:fs'

/** Processes as the kernel shows them (Linux), looked at without the code under test. */
export interface SeenProcess {
  readonly pid: number
  readonly command: string
}

/** Living processes that were started with all of these variables. */
export function processesWith(variables: Readonly<Record<string, string>>): readonly SeenProcess[] {
  const wanted = Object.entries(variables).map(([name, value]) => `${name}=${value}`)
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    const environ = read(`/proc/${name}/environ`).split('\0')
    if (!wanted.every((variable) => environ.includes(variable))) return []
    return [{ pid: Number(name), command: read(`/proc/${name}/cmdline`).replaceAll('\0', ' ').trim() }]
  })
}

export function isAlive(pid: number): boolean {
  const stat = read(`/proc/${pid}/stat`)
  return stat !== '' && !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // it ended, or belongs to somebody else
  }
}
