import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { extraOf, inferFailure, textOf } from '../support/answers.ts'
import { dockerAvailable } from '../support/docker.ts'
import { docker } from '../support/docker-cleanup.ts'
import { createTestImages } from '../support/images.ts'
import { containersOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** Images as modules, images as bases of modules, and what `docker inspect` says of a module's container. */

const base = 'python:3.13-slim-trixie'
const root = join(import.meta.dirname, '../..')
const server = readFileSync(join(root, 'test/testdata/docker/speaks/server.py'), 'utf8')
const run = promisify(execFile)

/** The command line against this orchestrator. */
async function cli(berth: TestBerth, ...args: string[]): Promise<string> {
  const { stdout } = await run(process.execPath, [join(root, 'orchestrator/cli/berth.ts'), ...args], {
    env: { ...process.env, BERTH_URL: berth.url },
  })
  return stdout
}

describe.skipIf(!dockerAvailable)('an image that speaks the runner protocol', () => {
  const images = createTestImages()
  let image: string
  let berth: TestBerth

  beforeAll(async () => {
    image = await images.build('speaks', {
      'server.py': server,
      Dockerfile: [
        `FROM ${base}`,
        'COPY server.py /server.py',
        'LABEL dev.berth.protocol=1',
        'LABEL dev.berth.module=\'{"id":"speaks","version":"1.2.3","models":{"speaks":{"size":1},"broken":{"broken":true}}}\'',
        'CMD ["python3", "/server.py"]',
      ].join('\n'),
    })
    berth = await startBerth({ engine: 'docker' })
  })
  afterAll(async () => {
    await berth?.close()
    images.remove()
  })

  it('is added by its name and answers, chunks wrapped where it left that out', async () => {
    await cli(berth, 'add', image)
    expect(await berth.module('speaks')).toMatchObject({ format: 'image', source: image, version: '1.2.3' })
    expect(await berth.infer('speaks')).toEqual([
      {
        chunk: {
          response: { text: 'from the image', extra: { config: { size: 1 } } },
          warnings: [],
          errors: [],
        },
      },
      { chunk: { response: { text: ', wrapped or not' }, warnings: [], errors: [] } },
      { done: true },
    ])
  })

  it('that breaks a stream off, or sends what is no frame, is told from one that failed', async () => {
    expect(await inferFailure(berth, 'speaks', { parameters: { do: 'break' } })).toMatchObject({
      code: 'STREAM_INTERRUPTED',
    })
    expect(await inferFailure(berth, 'speaks', { parameters: { do: 'fail' } })).toMatchObject({
      code: 'INFERENCE_FAILED',
      origin: 'module',
      message: expect.stringContaining('an error of its own'),
    })
    expect(await inferFailure(berth, 'speaks', { parameters: { do: 'nonsense' } })).toMatchObject({
      code: 'RUNNER_PROTOCOL',
    })
    expect(textOf(await berth.infer('speaks'))).toBe('from the image, wrapped or not')
  })

  it('gives its own error in a body: the code kept where Berth has it, with its status', async () => {
    expect(await inferFailure(berth, 'speaks', { parameters: { do: 'refuse' } })).toMatchObject({
      code: 'OUT_OF_MEMORY',
      status: 502,
      origin: 'module',
    })
    const failure = await inferFailure(berth, 'broken')
    expect(failure).toMatchObject({ code: 'LOAD_FAILED', status: 502, origin: 'module' })
    expect(failure.message).toContain('the weights are gone')
  })

  it('survives a restart of the orchestrator, its container too', async () => {
    const [before] = (await berth.module('speaks')).replicas
    await berth.kill()
    await berth.restart()
    expect(textOf(await berth.infer('speaks'))).toBe('from the image, wrapped or not')
    expect((await berth.module('speaks')).replicas).toMatchObject([
      { generation: before?.generation, container: before?.container },
    ])
  })

  it('leaves nothing when it is removed, and its image alone', async () => {
    await cli(berth, 'remove', 'speaks')
    await waitFor(30_000, 'it is gone', async () => (await berth.request('GET', '/api/modules/speaks')).status === 404)
    expect(containersOf(berth.instance())).toEqual([])
    const filters = ['--filter', `label=dev.berth.instance=${berth.instance()}`, '--filter', 'label=dev.berth.module']
    expect(await docker('network', 'ls', '--quiet', ...filters)).toBe('')
    expect(await docker('volume', 'ls', '--quiet', ...filters)).toBe('')
    expect(await docker('image', 'inspect', '--format', '{{.Id}}', image)).toMatch(/^sha256:/)
    await berth.kill()
    await berth.restart()
    expect((await berth.request('GET', '/api/modules/speaks')).status).toBe(404)
  })
})

describe.skipIf(!dockerAvailable)('a service module', () => {
  const images = createTestImages()
  let berth: TestBerth

  beforeAll(async () => {
    const image = await images.build('base', {
      Dockerfile: `FROM ${base}\nRUN echo "of the base" > /base-marker && useradd --uid 4321 someone\nUSER someone\n`,
    })
    berth = await startBerth({
      engine: 'docker',
      copy: ['test/testdata/modules-e2e/probe'],
      modules: {
        probe: { 'module.yaml': 'models: [probe]\nresources: { memory: 512MiB, cpus: 0.5 }\n' },
        based: {
          'module.yaml': `image: ${image}\n`,
          'service.py': `
def SERVICE_LOAD_MODELS(Models):
    pass

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    import os
    yield {"extra": {"marker": open("/base-marker").read(), "uid": os.getuid()}}
`,
        },
      },
    })
    // The same code, under another name and with another network.
    const source = join(berth.modulesFolder, 'probe/service.py')
    await berth.writeModule('egress', {
      'helper.py': "SAID = ''\n",
      'module.yaml': 'models: [egress]\nnetwork: egress\n',
      'service.py': readFileSync(source, 'utf8').replaceAll('.probe.', '.egress.'),
    })
    await berth.until('egress', ({ models }) => models.includes('egress'))
  })
  afterAll(async () => {
    await berth?.close()
    images.remove()
  })

  it('runs on the base image that its module.yaml names, with the runner mounted into it', async () => {
    expect(await extraOf(berth, 'based', {})).toEqual({ marker: 'of the base\n', uid: 10001 })
  })

  it('runs in a container that `docker inspect` shows to be locked', async () => {
    await berth.infer('probe', { parameters: { do: 'texts', texts: [] } })
    const { container } = (await berth.module('probe')).replicas[0] ?? {}
    const [seen] = JSON.parse(await docker('inspect', String(container)))
    expect(seen).toMatchObject({
      Config: {
        User: '10001:10001',
        Labels: {
          'dev.berth.instance': berth.instance(),
          'dev.berth.module': 'probe',
          'dev.berth.replica': 'probe-0',
          'dev.berth.generation': '1',
          'dev.berth.spec-hash': expect.stringMatching(/^[0-9a-f]{16,}$/),
        },
      },
      HostConfig: {
        Privileged: false,
        ReadonlyRootfs: true,
        CapAdd: null,
        CapDrop: ['ALL'],
        SecurityOpt: ['no-new-privileges:true'],
        PidsLimit: expect.toSatisfy((limit: number) => limit > 0 && limit <= 4096),
        Memory: 512 * 1024 * 1024,
        NanoCpus: 5e8,
        Binds: null,
        PidMode: '',
        IpcMode: 'private',
        PortBindings: {},
        RestartPolicy: { Name: 'no' },
      },
    })
    const writable = seen.Mounts.filter((mount: { RW: boolean }) => mount.RW)
    expect(writable.map(({ Destination }: { Destination: string }) => Destination).sort()).toEqual([
      '/berth/cache',
      '/berth/data',
      '/berth/module',
    ])
    expect(seen.Mounts.every((mount: { Type: string }) => mount.Type === 'volume')).toBe(true)
    const [network] = Object.keys(seen.NetworkSettings.Networks)
    expect(await docker('network', 'inspect', '--format', '{{.Internal}}', String(network))).toBe('true')
  })

  it('has no way out, unless its module.yaml says `network: egress`', async () => {
    const gateway = execFileSync('docker', [
      'network',
      'inspect',
      '--format',
      '{{(index .IPAM.Config 0).Gateway}}',
      'bridge',
    ])
      .toString()
      .trim()
    const listener = createServer((socket) => socket.end()).listen(0, '0.0.0.0')
    await once(listener, 'listening')
    const { port } = listener.address() as { port: number }
    try {
      const reach = { do: 'reach', host: gateway, port }
      expect(await extraOf(berth, 'egress', reach)).toEqual({ reached: true })
      expect(await extraOf(berth, 'probe', reach)).toMatchObject({ reached: false })
    } finally {
      listener.close()
    }
    expect((await berth.module('egress')).security.score).toBeLessThan((await berth.module('probe')).security.score)
  })
})
