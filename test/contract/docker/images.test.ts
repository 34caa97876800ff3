import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { PrepareProgress } from '../../../orchestrator/engines/engine.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { testProtocolImage } from '../../support/docker-images.ts'
import { callEndpoint } from '../../support/endpoint-client.ts'
import { type DockerHarness, dockerHarness, ignore, inspect, soon, untilHealthy } from './harness.ts'

/** Images: of modules that speak the protocol themselves, of bases, and those that can't be had. */
describe.skipIf(!dockerAvailable)('an image', () => {
  let harness: DockerHarness
  let image: string
  const made: string[] = []
  beforeAll(async () => {
    harness = await dockerHarness()
    image = await testProtocolImage()
  })
  afterAll(async () => {
    await harness?.dispose()
    for (const tag of made) await docker('rmi', '--force', tag).catch(ignore)
  })

  /** An image made on the spot, from another. */
  async function build(dockerfile: string): Promise<string> {
    const tag = `berth-test/made:${randomUUID()}`
    const folder = await mkdtemp(join(tmpdir(), 'berth-image-'))
    try {
      await writeFile(join(folder, 'Dockerfile'), dockerfile)
      await docker('build', '--quiet', '--tag', tag, folder)
      made.push(tag)
      return tag
    } finally {
      await rm(folder, { recursive: true })
    }
  }

  const startImage = async (reference: string, replica = 'probe-0') => {
    const { folder: _folder, ...spec } = harness.spec({ base: { kind: 'protocol', image: reference }, replica })
    expect(await harness.engine.prepare(spec, soon(), ignore)).toEqual({ cached: true })
    const workload = await harness.engine.start(spec, soon())
    await untilHealthy(workload.endpoint)
    const { json } = await callEndpoint(workload.endpoint, { path: '/health' })
    return { workload, seen: (json as { seen: { uid: number; names: string[] } }).seen }
  }

  it('that speaks the protocol runs its own program, locked as any module', async () => {
    const { workload, seen } = await startImage(image)
    expect(seen).toEqual({ uid: 10001, names: ['BERTH_PORT', 'BERTH_TOKEN'] })
    const { Config, HostConfig, Mounts } = await inspect(workload.id)
    expect(Config.User).toBe('10001:10001')
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
    })
    expect(Mounts).toEqual([])
    await harness.engine.stop(workload.id, { graceMs: 0 })
  })

  it('keeps its own user when that is not root', async () => {
    const own = await build(`FROM ${image}\nUSER 1234:1234\n`)
    const { workload, seen } = await startImage(own)
    expect(seen.uid).toBe(1234)
    await harness.engine.stop(workload.id, { graceMs: 0 })
  })

  it.each(['root', '0', '0:0', 'root:root', 'toor'])('does not run as root, whatever it calls it: %s', async (user) => {
    const own = await build(`FROM ${image}\nRUN echo toor:x:0:0::/root:/bin/sh >> /etc/passwd\nUSER ${user}\n`)
    const { workload, seen } = await startImage(own)
    expect(seen.uid).toBe(10001)
    await harness.engine.stop(workload.id, { graceMs: 0 })
  })

  it('does not run as root by a list of users that is a link', async () => {
    const hidden =
      'mv /etc/passwd /etc/users && ln -s users /etc/passwd && echo toor:x:0:0::/root:/bin/sh >> /etc/users'
    const own = await build(`FROM ${image}\nRUN ${hidden}\nUSER toor\n`)
    const { workload, seen } = await startImage(own)
    expect(seen.uid).toBe(10001)
    await harness.engine.stop(workload.id, { graceMs: 0 })
  })

  it('is described without being run', async () => {
    expect(await harness.engine.inspectImage(image, soon())).toMatchObject({
      id: expect.stringMatching(/^sha256:/),
      labels: { 'dev.berth.protocol': '1', 'dev.berth.module': expect.stringContaining('"other"') },
      user: '',
    })
  })

  it('that is nowhere is named, with the words of the daemon', async () => {
    const reference = 'berth-registry.invalid/no/such-image:1'
    const failure = {
      code: 'IMAGE_UNAVAILABLE',
      message: expect.stringContaining(reference),
      details: { image: reference, daemon: expect.any(String), remedy: expect.any(String) },
    }
    await expect(harness.engine.inspectImage(reference, soon())).rejects.toMatchObject(failure)
    const spec = harness.spec({ base: { kind: 'image', image: reference } })
    await expect(harness.engine.prepare(spec, soon(), ignore)).rejects.toMatchObject(failure)
  })

  it('whose name is none is refused', async () => {
    await expect(harness.engine.inspectImage('Not A Name', soon())).rejects.toMatchObject({ code: 'IMAGE_UNAVAILABLE' })
    await expect(harness.engine.inspectImage('../../etc/passwd', soon())).rejects.toMatchObject({
      code: 'IMAGE_UNAVAILABLE',
    })
  })

  it('for another machine says so', async () => {
    const tag = `berth-test/foreign:${randomUUID()}`
    made.push(tag)
    const folder = await mkdtemp(join(tmpdir(), 'berth-foreign-'))
    try {
      await writeFile(join(folder, 'empty.tar'), Buffer.alloc(1024))
      await docker('import', '--platform', 'linux/riscv64', join(folder, 'empty.tar'), tag)
    } finally {
      await rm(folder, { recursive: true })
    }
    await expect(harness.engine.inspectImage(tag, soon())).rejects.toMatchObject({
      code: 'IMAGE_UNAVAILABLE',
      message: expect.stringContaining('linux/riscv64'),
      details: { remedy: expect.stringContaining('docker rmi') },
    })
  })

  it('named as a base gets the runner', async () => {
    const base = await build(
      'FROM python:3.13-slim-trixie\nENV FROM_THE_BASE=yes\nUSER nobody\nWORKDIR /nowhere\nENTRYPOINT ["/bin/false"]\n',
    )
    const { id, endpoint } = await harness.start({ base: { kind: 'image', image: base } })
    await untilHealthy(endpoint)
    const { Config } = await inspect(id)
    expect(Config.Env).toContain('FROM_THE_BASE=yes')
    expect(Config.User).toBe('10001:10001')
    await harness.engine.stop(id, { graceMs: 0 })
  })

  describe('of a Dockerfile', () => {
    let folder: string
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'berth-build-'))
    })
    afterEach(() => rm(folder, { recursive: true }))

    it('is built once for its content, with its output told', async () => {
      await writeFile(
        join(folder, 'Dockerfile'),
        `FROM python:3.13-slim-trixie\nCOPY --chmod=644 <<EOF /hello\n${randomUUID()}\nEOF\nCOPY . /context\nRUN echo "größer: $((40 + 2))" && ls /context\n`,
      )
      await mkdir(join(folder, 'data'))
      await writeFile(join(folder, 'data', 'kept.txt'), 'kept')
      await writeFile(join(folder, 'data', 'left-out.bin'), 'x')
      await writeFile(join(folder, '.dockerignore'), '**/*.bin\n')
      const spec = harness.spec({ folder, base: { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' } })
      const progress: PrepareProgress[] = []
      expect(await harness.engine.prepare(spec, soon(), (each) => progress.push(each))).toEqual({ cached: false })
      const lines = progress.flatMap(({ line }) => line ?? [])
      // Not the words of the Dockerfile: what its step printed.
      expect(lines).toContain('größer: 42')
      expect(lines).toContain('data')
      expect(await harness.engine.prepare(spec, soon(), ignore)).toEqual({ cached: true })
      const { id, endpoint } = await harness.engine.start(spec, soon())
      await untilHealthy(endpoint)
      expect(await docker('exec', id, 'ls', '/context/data')).toBe('kept.txt')
      await harness.engine.stop(id, { graceMs: 0 })
      const images = () => docker('images', '--quiet', '--filter', `label=dev.berth.instance=${harness.instance}`)
      expect(await images()).not.toBe('')
      await harness.engine.forget('probe', { data: true })
      expect(await images()).toBe('')
    })

    it('is told where packages come from, and does not keep it', async () => {
      await writeFile(
        join(folder, 'Dockerfile'),
        `FROM python:3.13-slim-trixie
LABEL made=${randomUUID()}
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG npm_config_registry
RUN test "$PIP_INDEX_URL" = https://index.example/simple
RUN test "$PIP_EXTRA_INDEX_URL" = https://more.example/simple
RUN test "$npm_config_registry" = https://npm.example/
`,
      )
      const engine = await harness.open({
        env: {
          ...process.env,
          PIP_INDEX_URL: 'https://index.example/simple',
          PIP_EXTRA_INDEX_URL: 'https://more.example/simple',
          NPM_CONFIG_REGISTRY: undefined,
          npm_config_registry: 'https://npm.example/',
        },
      })
      const spec = harness.spec({ folder, base: { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' } })
      expect(await engine.prepare(spec, soon(), ignore)).toEqual({ cached: false })
      const marks = ['--filter', `label=dev.berth.instance=${harness.instance}`]
      const [image = ''] = (await docker('images', '--quiet', ...marks)).split('\n')
      expect(await docker('image', 'inspect', '--format', '{{json .Config.Env}}', image)).not.toContain('.example')
      await engine.forget('probe', { data: true })
    })

    it('may have the CA bundle of this machine as a secret, which stays out of the image', async () => {
      const bundle = join(folder, 'ca.pem')
      const secret = '--mount=type=secret,id=ca_bundle,target=/etc/ssl/certs/ca-certificates.crt,mode=0444'
      await writeFile(bundle, `certificates ${randomUUID()}`)
      await writeFile(join(folder, '.dockerignore'), '*.pem\n')
      const base = { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' } as const
      const built = async (env: NodeJS.ProcessEnv) => {
        // A secret's content is no part of what BuildKit keeps steps by.
        await writeFile(
          join(folder, 'Dockerfile'),
          `FROM python:3.13-slim-trixie
ENV MADE=${randomUUID()}
RUN ${secret} cp /etc/ssl/certs/ca-certificates.crt /seen
RUN cp /etc/ssl/certs/ca-certificates.crt /kept
`,
        )
        const engine = await harness.open({ env })
        const spec = harness.spec({ folder, base })
        await engine.prepare(spec, soon(), ignore)
        const { id } = await engine.start(spec, soon())
        const files = await Promise.all(['/seen', '/kept'].map((file) => docker('exec', id, 'cat', file)))
        await engine.stop(id, { graceMs: 0 })
        await engine.forget('probe', { data: true })
        return files
      }
      const [seen, kept] = await built({ ...process.env, SSL_CERT_FILE: bundle })
      expect(seen).toBe(await readFile(bundle, 'utf8'))
      expect(kept === seen).toBe(false)
      // Where none is named the image's own serves.
      const none = { SSL_CERT_FILE: '', REQUESTS_CA_BUNDLE: '', PIP_CERT: '', CURL_CA_BUNDLE: '' }
      const [own, same] = await built({ ...process.env, ...none })
      expect(own === same).toBe(true)
    })

    it('that fails says why', async () => {
      await writeFile(join(folder, 'Dockerfile'), 'FROM python:3.13-slim-trixie\nRUN echo about to fail && exit 7\n')
      const spec = harness.spec({ folder, base: { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' } })
      await expect(harness.engine.prepare(spec, soon(), ignore)).rejects.toMatchObject({
        code: 'IMAGE_UNAVAILABLE',
        message: expect.stringContaining('exit 7'),
        details: { lines: expect.arrayContaining([expect.stringContaining('about to fail')]) },
      })
    })

    it('that is not there is named', async () => {
      const spec = harness.spec({ folder, base: { kind: 'dockerfile', dockerfile: 'Absent', context: '.' } })
      await expect(harness.engine.prepare(spec, soon(), ignore)).rejects.toMatchObject({
        code: 'MANIFEST_INVALID',
        details: { file: 'Absent', field: 'dockerfile' },
      })
    })
  })
})
