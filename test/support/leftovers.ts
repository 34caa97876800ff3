import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'

/** What is running of one orchestrator, seen from outside of it. */
export interface Leftover {
  readonly replica: string
  readonly generation: number
  readonly what: string
}

/** Containers of the instance, by label. */
export function containersOf(instance: string): Leftover[] {
  const format = '{{.ID}} {{.Label "dev.berth.replica"}} {{.Label "dev.berth.generation"}} {{.State}}'
  const text = execFileSync(
    'docker',
    [
      'ps',
      '--all',
      '--filter',
      `label=dev.berth.instance=${instance}`,
      '--filter',
      'label=dev.berth.replica',
      '--format',
      format,
    ],
    { encoding: 'utf8' },
  )
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [id = '', replica = '', generation = '', state = ''] = line.split(' ')
      return { replica, generation: Number(generation), what: `container ${id} (${state})` }
    })
}

/** Processes inside the instance's containers, as this machine numbers them. */
export function processesInContainers(instance: string): Leftover[] {
  return containersOf(instance).flatMap(({ replica, generation, what }) => {
    const id = what.split(' ')[1] ?? ''
    try {
      const text = execFileSync('docker', ['top', id, '-eo', 'pid,args'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      })
      return text
        .split('\n')
        .slice(1)
        .filter((line) => line.trim() !== '')
        .map((line) => ({ replica, generation, what: `process ${line.trim().replace(/\s+/, ': ')}` }))
    } catch {
      return []
    }
  })
}

/** Processes whose environment names the data folder or the instance, the given ones left out. */
export function processesOf(mark: string, except: readonly (number | undefined)[] = []): Leftover[] {
  const found: Leftover[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry) || except.includes(Number(entry))) continue
    try {
      const environment = readFileSync(`/proc/${entry}/environ`, 'utf8')
      if (!environment.includes(mark)) continue
      // A process that has ended and is not yet collected holds nothing.
      if (readFileSync(`/proc/${entry}/stat`, 'utf8').split(') ')[1]?.startsWith('Z')) continue
      found.push({
        replica: '',
        generation: 0,
        what: `process ${entry}: ${readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ')}`,
      })
    } catch {
      // It ended while we looked.
    }
  }
  return found
}
