import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { PrepareProgress } from '../../../orchestrator/engines/engine.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { type DockerHarness, dockerHarness, ignore, patience, soon } from './harness.ts'

const run = promisify(execFile)
const installed = await Promise.all(
  ['docker-registry', 'htpasswd'].map((program) =>
    run('which', [program]).then(
      () => true,
      () => false,
    ),
  ),
)
const available = dockerAvailable && installed.every((each) => each)
if (!available && process.env.BERTH_TEST_DOCKER === 'required')
  throw new Error('BERTH_TEST_DOCKER=required, but docker-registry or htpasswd is missing')

/** Pulls from a real registry on the loopback, one that wants a login. */
describe.skipIf(!available)('a registry', () => {
  let harness: DockerHarness
  let registry: ChildProcess
  let folder: string
  let address: string
  let image: string
  const login = { user: 'berth', password: 'a:secret' }

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-registry-'))
    address = `127.0.0.1:${await freePort()}`
    image = `${address}/team/module:${randomUUID()}`
    const { stdout } = await run('htpasswd', ['-nbB', login.user, login.password])
    await writeFile(join(folder, 'users'), stdout)
    const settings = {
      version: 0.1,
      storage: { filesystem: { rootdirectory: join(folder, 'data') } },
      http: { addr: address },
      auth: { htpasswd: { realm: 'test', path: join(folder, 'users') } },
    }
    await writeFile(join(folder, 'registry.yml'), JSON.stringify(settings))
    registry = spawn('docker-registry', ['serve', join(folder, 'registry.yml')], { stdio: 'ignore' })
    await vi.waitFor(async () => expect((await fetch(`http://${address}/v2/`)).status).toBe(401), patience)
    await writeFile(join(folder, 'content.tar'), Buffer.alloc(1024))
    await docker('import', join(folder, 'content.tar'), image)
    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64')
    await writeFile(join(folder, 'config.json'), JSON.stringify({ auths: { [address]: { auth } } }))
    await docker('--config', folder, 'push', '--quiet', image)
    await docker('rmi', image)
    harness = await dockerHarness()
  })
  afterAll(async () => {
    await harness?.dispose()
    await docker('rmi', '--force', image).catch(ignore)
    if (registry?.exitCode === null) {
      registry.kill()
      await once(registry, 'exit')
    }
    await rm(folder, { recursive: true, force: true })
  })

  const loggedIn = async (config: object): Promise<NodeJS.ProcessEnv> => {
    const home = await mkdtemp(join(folder, 'client-'))
    await writeFile(join(home, 'config.json'), JSON.stringify(config))
    return { ...process.env, DOCKER_CONFIG: home }
  }

  it('that wants a login says so', async () => {
    const engine = await harness.open({ env: await loggedIn({}) })
    await expect(engine.inspectImage(image, soon())).rejects.toMatchObject({
      code: 'IMAGE_UNAVAILABLE',
      message: expect.stringContaining(image),
      details: { remedy: expect.stringContaining('docker login') },
    })
  })

  it('gets the login of the client’s configuration; the pull is told, and never repeated', async () => {
    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64')
    const engine = await harness.open({ env: await loggedIn({ auths: { [address]: { auth } } }) })
    const progress: PrepareProgress[] = []
    const found = await engine.inspectImage(image, soon(), (each) => progress.push(each))
    expect(found).toMatchObject({ architecture: expect.any(String) })
    expect(progress).toContainEqual(expect.objectContaining({ phase: 'image', message: `pulls ${image}` }))

    const nobody = await harness.open({ env: await loggedIn({}) })
    const again: PrepareProgress[] = []
    expect(await nobody.inspectImage(image, soon(), (each) => again.push(each))).toEqual(found)
    expect(again).toEqual([])
  })

  it('gets the login for the base of a Dockerfile too', async () => {
    const context = await mkdtemp(join(folder, 'module-'))
    await writeFile(join(context, 'Dockerfile'), `FROM ${image}\nLABEL made=${randomUUID()}\n`)
    const spec = harness.spec({ folder: context, base: { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' } })
    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64')
    const nobody = await harness.open({ env: await loggedIn({}) })
    await docker('rmi', '--force', image).catch(ignore)
    await expect(nobody.prepare(spec, soon(), ignore)).rejects.toMatchObject({ code: 'IMAGE_UNAVAILABLE' })
    const engine = await harness.open({ env: await loggedIn({ auths: { [address]: { auth } } }) })
    // The image is empty, so nothing can run in it: it is built, and the runner then finds no Python.
    const progress: PrepareProgress[] = []
    await engine.prepare(spec, soon(), (each) => progress.push(each)).catch(ignore)
    const marks = ['--filter', `label=dev.berth.instance=${harness.instance}`]
    expect(await docker('images', '--quiet', ...marks)).not.toBe('')
    await engine.forget('probe', { data: true })
  })

  it('that has no such tag is told apart', async () => {
    const auth = Buffer.from(`${login.user}:${login.password}`).toString('base64')
    const engine = await harness.open({ env: await loggedIn({ auths: { [`http://${address}`]: { auth } } }) })
    await expect(engine.inspectImage(`${address}/team/module:absent`, soon())).rejects.toMatchObject({
      code: 'IMAGE_UNAVAILABLE',
      details: { remedy: expect.stringContaining('tag') },
    })
  })
})

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}
