import { execFile } from 'node:child_process'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { docker } from './docker-cleanup.ts'
import { tempDirectory, writeFiles } from './temp-folder.ts'

/** A compose project with one service of a module image, as somebody else would run it beside Berth. */
export interface ComposeProject {
  /** `docker compose ...` in its folder. */
  compose(...args: readonly string[]): Promise<string>
  /** `up` with so many containers; resolves when they have been started or stopped. */
  scale(count: number): Promise<void>
  /** Short ids of the service's containers that run, which are their host names. */
  running(): Promise<readonly string[]>
  remove(): Promise<void>
}

const run = promisify(execFile)
const root = join(import.meta.dirname, '../..')
const service = 'who'

export async function composeProject(name: string, labels: Readonly<Record<string, string>>): Promise<ComposeProject> {
  const image = `berth-test/${service}:${name}`
  await buildModuleImage(image, join(root, 'test/testdata/modules-external', service))
  const place = tempDirectory()
  const file = {
    name,
    services: {
      [service]: {
        image,
        labels: { 'dev.berth.protocol': '1', 'dev.berth.test': '1', ...labels },
        read_only: true,
        tmpfs: ['/tmp:mode=1777'],
        stop_grace_period: '45s',
      },
    },
    // A subnet of its own: Docker's default pools hold few networks.
    networks: { default: { ipam: { config: [{ subnet: '10.214.252.0/27' }] } } },
  }
  writeFiles(place.folder, { 'compose.yaml': JSON.stringify(file) })
  const compose = async (...args: readonly string[]): Promise<string> =>
    (await run('docker', ['compose', ...args], { cwd: place.folder, timeout: 120_000 })).stdout.trimEnd()
  return {
    compose,
    async scale(count) {
      await compose('up', '--detach', '--scale', `${service}=${count}`)
    },
    async running() {
      const ids = await compose('ps', '--quiet', '--status', 'running')
      return ids.split('\n').flatMap((id) => (id === '' ? [] : [id.slice(0, 12)]))
    },
    async remove() {
      await compose('down', '--timeout', '1').catch(() => undefined)
      await docker('image', 'rm', '--force', image).catch(() => undefined)
      place.remove()
    },
  }
}

/** By the Dockerfile that the documents name, with a module's folder of the tests. */
async function buildModuleImage(image: string, folder: string): Promise<void> {
  const context = tempDirectory()
  try {
    const filter = (path: string) => !/\/(node_modules|__pycache__)$/.test(path)
    await cp(join(root, 'module-runner'), join(context.folder, 'module-runner'), { recursive: true, filter })
    await cp(folder, join(context.folder, 'module'), { recursive: true })
    await cp(join(root, 'deploy/module-image/Dockerfile'), join(context.folder, 'Dockerfile'))
    const passed = [
      'npm_config_registry',
      'HTTP_PROXY',
      'HTTPS_PROXY',
      'NO_PROXY',
      'http_proxy',
      'https_proxy',
      'no_proxy',
    ]
    const args = [...passed, 'MODULE=module'].flatMap((each) => ['--build-arg', each])
    await run('docker', ['build', '--quiet', '--tag', image, ...args, context.folder], { timeout: 600_000 })
  } finally {
    context.remove()
  }
}
