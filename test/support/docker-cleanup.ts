import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'

/** What Docker tests make carries an instance id of theirs, by which all of it is found and removed again. */
const run = promisify(execFile)
const label = 'dev.berth.instance'

/** Output of a docker command, without the last line end. */
export async function docker(...args: readonly string[]): Promise<string> {
  const { stdout } = await run('docker', args, { maxBuffer: 64 * 1024 * 1024 })
  return stdout.trimEnd()
}

/** `test-<process id of the test run>-<random>`: tells the leftovers of a dead run from the things of a living one. */
export function testInstance(): string {
  return `test-${process.env.BERTH_TEST_RUN ?? process.pid}-${randomBytes(4).toString('hex')}`
}

/** Removes containers, networks and volumes whose instance id is wanted gone. */
export async function removeInstances(wanted: (instance: string) => boolean): Promise<void> {
  const format = `{{.ID}}\t{{.Label "${label}"}}`
  const containers = await find(['ps', '--all'], format, wanted)
  await Promise.all(containers.map((id) => quietly('rm', '--force', '--volumes', id)))
  const networks = await find(['network', 'ls'], format, wanted)
  await Promise.all(networks.map((id) => quietly('network', 'rm', id)))
  const volumes = await find(['volume', 'ls'], `{{.Name}}\t{{.Label "${label}"}}`, wanted)
  await Promise.all(volumes.map((name) => quietly('volume', 'rm', '--force', name)))
}

async function find(command: readonly string[], format: string, wanted: (instance: string) => boolean) {
  const lines = (await docker(...command, '--filter', `label=${label}`, '--format', format)).split('\n')
  return lines.flatMap((line) => {
    const [id = '', instance = ''] = line.split('\t')
    return id !== '' && wanted(instance) ? [id] : []
  })
}

/** Something else may have removed it meanwhile. */
async function quietly(...args: readonly string[]): Promise<void> {
  await docker(...args).catch(() => undefined)
}
