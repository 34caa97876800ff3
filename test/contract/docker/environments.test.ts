import { randomUUID } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { OnProgress } from '../../../orchestrator/engines/engine.ts'
import type { WorkloadSpec } from '../../../orchestrator/engines/workload-spec.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { type DockerHarness, dockerHarness, ignore, inside, inspect, patience, soon } from './harness.ts'

/** Environments in volumes: installed once, whoever asks, and never used when they are not complete. */
describe.skipIf(!dockerAvailable)('an environment', () => {
  let harness: DockerHarness
  beforeAll(async () => {
    harness = await dockerHarness()
  })
  afterAll(() => harness?.dispose())

  /** What the stand-in installer does is the first word of `extra`. */
  const wanting = (...extra: readonly string[]): WorkloadSpec =>
    harness.spec({ requirements: { extra, hash: randomUUID(), empty: false } })

  const lines = (): { readonly said: string[]; readonly onProgress: OnProgress } => {
    const said: string[] = []
    return { said, onProgress: ({ line }) => void (line === undefined || said.push(line)) }
  }
  const numberOf = (said: readonly string[]): readonly string[] =>
    said.flatMap((line) => /install number (\d+)/.exec(line)?.[1] ?? [])
  const containers = (key: string): Promise<string> =>
    docker('ps', '--all', '--quiet', '--filter', `name=^/berth-install-${key}$`)
  const volume = (key: string): Promise<string> =>
    docker('volume', 'ls', '--quiet', '--filter', `name=berth-env-${key}`)

  async function installing(
    spec: WorkloadSpec,
    engine = harness.engine,
  ): Promise<{ readonly key: string; readonly done: Promise<unknown>; leave(): void }> {
    const controller = new AbortController()
    let key = ''
    const done = engine.prepare(spec, controller.signal, (progress) => {
      key ||= progress.environmentKey ?? ''
    })
    done.catch(ignore)
    await vi.waitFor(() => expect(key).not.toBe(''), patience)
    return { key, done, leave: () => controller.abort(new Error('left')) }
  }

  it('is installed by a locked container that is gone afterwards', async () => {
    const { key, leave, done } = await installing(wanting('hang'))
    const view = await inspect(`berth-install-${key}`)
    expect(view.Config.User).toBe('10001:10001')
    expect(view.HostConfig).toMatchObject({
      Privileged: false,
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
    })
    expect(view.HostConfig.PidsLimit).toBeGreaterThan(0)
    expect(view.Mounts.find(({ Destination }) => Destination === '/berth/runner')).toMatchObject({ RW: false })
    leave()
    await expect(done).rejects.toThrow('left')
    await vi.waitFor(async () => expect(await containers(key)).toBe(''), patience)
  })

  it('is mounted read-only into the module', async () => {
    const spec = wanting()
    const prepared = await harness.engine.prepare(spec, soon(), ignore)
    const { id, endpoint } = await harness.engine.start(spec, soon())
    const view = await inspect(id)
    expect(view.Mounts.find(({ Destination }) => Destination === '/berth/env')).toMatchObject({ RW: false })
    await vi.waitFor(async () => {
      expect(await inside(endpoint, "return require('fs').readFileSync('/berth/env/env/installed', 'utf8')")).toBe(
        prepared.environment?.key,
      )
    }, patience)
    await harness.engine.stop(id, { graceMs: 0 })
  })

  it('is installed again at the start when somebody has removed its volume', async () => {
    const spec = wanting()
    const { environment } = await harness.engine.prepare(spec, soon(), ignore)
    await docker('volume', 'rm', `berth-env-${environment?.key}`)
    const { id, endpoint } = await harness.engine.start(spec, soon())
    await vi.waitFor(async () => {
      expect(await inside(endpoint, "return require('fs').readFileSync('/berth/env/env/installed', 'utf8')")).toBe(
        environment?.key,
      )
    }, patience)
    await harness.engine.stop(id, { graceMs: 0 })
  })

  it('is there for every later start, also of another engine object, without an installer', async () => {
    const spec = wanting()
    const first = await harness.engine.prepare(spec, soon(), ignore)
    expect(first.cached).toBe(false)
    const later = await harness.open()
    const { said, onProgress } = lines()
    const second = await later.prepare(spec, soon(), onProgress)
    expect(second).toEqual({ cached: true, environment: first.environment })
    expect(said).toEqual([])
    expect(await later.environments.list()).toContainEqual(first.environment)
  })

  it('tells its installer’s output as it comes', async () => {
    const seen: unknown[] = []
    await harness.engine.prepare(wanting(), soon(), (progress) => seen.push(progress))
    expect(seen).toContainEqual(expect.objectContaining({ phase: 'environment', line: 'uid 10001' }))
    expect(seen).toContainEqual(expect.objectContaining({ message: 'half way', current: 1, total: 2 }))
    expect(seen).toContainEqual(expect.objectContaining({ line: 'module has service.py' }))
  })

  it('is installed once for many callers at once, of two orchestrators', async () => {
    const spec = wanting('slow')
    const other = await harness.open()
    const { said, onProgress } = lines()
    const all = await Promise.all(
      [harness.engine, other, harness.engine, other].map((engine) => engine.prepare(spec, soon(), onProgress)),
    )
    expect(new Set(all.map(({ environment }) => environment?.key)).size).toBe(1)
    expect(new Set(numberOf(said))).toEqual(new Set(['1']))
  })

  it('goes on when one caller leaves, and is ended when the last has left', async () => {
    const spec = wanting('hang')
    const one = await installing(spec)
    const other = await installing(spec)
    one.leave()
    await expect(one.done).rejects.toThrow('left')
    expect(await containers(one.key)).not.toBe('')
    other.leave()
    await expect(other.done).rejects.toThrow('left')
    await vi.waitFor(async () => {
      expect(await containers(one.key)).toBe('')
      expect(await volume(one.key)).toBe('')
    }, patience)
  })

  it('that failed says why with the last lines, leaves nothing, and is tried again', async () => {
    const spec = wanting('fail')
    for (const number of ['1', '2']) {
      const { said, onProgress } = lines()
      await expect(harness.engine.prepare(spec, soon(), onProgress)).rejects.toMatchObject({
        code: 'REQUIREMENTS_FAILED',
        message: expect.stringContaining('no such package: berth-absent'),
        details: { module: 'probe', lines: ['ERROR: no such package: berth-absent'] },
      })
      expect(numberOf(said)).toEqual([number])
      const key = /of ([0-9a-f]{24})/.exec(said[0] ?? '')?.[1] ?? 'none'
      expect(await volume(key)).toBe('')
      expect(await containers(key)).toBe('')
    }
  })

  it('whose installer is killed is not used, and is installed anew', async () => {
    const spec = wanting('slow')
    const { key, done } = await installing(spec)
    await docker('kill', `berth-install-${key}`)
    await expect(done).rejects.toMatchObject({ code: 'REQUIREMENTS_FAILED' })
    expect(await volume(key)).toBe('')
    const { said, onProgress } = lines()
    expect(await harness.engine.prepare(spec, soon(), onProgress)).toMatchObject({
      cached: false,
      environment: { key },
    })
    expect(numberOf(said)).toEqual(['2'])
  })

  it('is finished by the next orchestrator when the one that began it died', async () => {
    // The first engine object never hears of it again: as if its process had been killed.
    const spec = wanting('slow')
    const { key } = await installing(spec, await harness.open())
    const next = await harness.open()
    const { said, onProgress } = lines()
    expect(await next.prepare(spec, soon(), onProgress)).toMatchObject({ environment: { key } })
    expect(new Set(numberOf(said))).toEqual(new Set(['1']))
  })

  it('is installed anew where an orchestrator died between making the installer and starting it', async () => {
    const spec = wanting()
    const { environment } = await harness.engine.prepare(spec, soon(), ignore)
    const key = environment?.key ?? ''
    await docker('volume', 'rm', `berth-env-${key}`)
    await docker(
      'create',
      '--name',
      `berth-install-${key}`,
      '--label',
      `dev.berth.instance=${harness.instance}`,
      '--label',
      'dev.berth.role=installer',
      '--volume',
      `berth-env-${key}:/berth/env`,
      'python:3.13-slim-trixie',
      'true',
    )
    expect(await harness.engine.prepare(spec, soon(), ignore)).toMatchObject({ cached: false, environment: { key } })
  })

  it('is no longer being installed once what a dead orchestrator left is removed, whatever the installer does', async () => {
    const other = await dockerHarness()
    try {
      const spec = wanting('hang')
      const left = await installing(spec)
      const theirs = await installing({ ...wanting('hang'), instance: other.instance }, other.engine)
      const waiting = await docker(
        'create',
        '--label',
        `dev.berth.instance=${harness.instance}`,
        '--label',
        'dev.berth.role=installer',
        'python:3.13-slim-trixie',
      )
      await vi.waitFor(async () => {
        expect((await inspect(`berth-install-${left.key}`)).State.Status).toBe('running')
      }, patience)
      const later = await harness.open()
      const removed = (await later.removeInstalls?.()) ?? []
      expect(removed).toContain(`berth-install-${left.key}`)
      expect(await docker('ps', '--all', '--quiet', '--no-trunc', '--filter', `id=${waiting}`)).toBe('')
      expect(await containers(theirs.key)).not.toBe('')
      theirs.leave()
      await expect(theirs.done).rejects.toThrow('left')
      left.leave()
      await expect(left.done).rejects.toThrow()
    } finally {
      await other.dispose()
    }
  })

  it('without its marker is not listed, not used, and removed', async () => {
    const spec = wanting()
    const { environment } = await harness.engine.prepare(spec, soon(), ignore)
    const key = environment?.key ?? ''
    await docker('volume', 'rm', `berth-env-${key}`)
    await docker(
      'volume',
      'create',
      '--label',
      `dev.berth.instance=${harness.instance}`,
      '--label',
      'dev.berth.role=environment',
      '--label',
      `dev.berth.environment=${key}`,
      `berth-env-${key}`,
    )
    const keys = (await harness.engine.environments.list()).map((each) => each.key)
    expect(keys).not.toContain(key)
    await harness.engine.environments.prune(new Set(keys))
    expect(await volume(key)).toBe('')
    expect(await harness.engine.prepare(spec, soon(), ignore)).toMatchObject({ cached: false, environment: { key } })
  })

  it('that takes too long is ended with its time limit named', async () => {
    const spec = { ...wanting('hang'), installTimeoutMs: 1_500 }
    await expect(harness.engine.prepare(spec, soon(), ignore)).rejects.toMatchObject({
      code: 'REQUIREMENTS_FAILED',
      message: expect.stringContaining('within 2 s'),
      details: { remedy: expect.stringContaining('timeouts.install') },
    })
  })

  it('has its installer told of proxies, the index and certificates, whose files are shipped', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-ca-'))
    try {
      const bundle = join(folder, 'company-ca.pem')
      await writeFile(bundle, 'the certificates of the company', { mode: 0o600 })
      const env = {
        ...process.env,
        SSL_CERT_FILE: bundle,
        PIP_CERT: bundle,
        HTTPS_PROXY: 'http://proxy.example:3128',
        no_proxy: '.example',
        PIP_INDEX_URL: 'https://index.example/simple',
        PIP_FIND_LINKS: folder,
        BERTH_ADMIN_KEY: 'secret',
      }
      const engine = await harness.open({ env })
      const { said, onProgress } = lines()
      await engine.prepare(wanting('read', 'SSL_CERT_FILE'), soon(), onProgress)
      expect(said).toContain('read the certificates of the company')

      const told = lines()
      await engine.prepare(wanting('environment'), soon(), told.onProgress)
      const seen = JSON.parse(/^environment (.*)$/m.exec(told.said.join('\n'))?.[1] ?? '{}') as Record<string, string>
      expect(seen).toMatchObject({
        HTTPS_PROXY: 'http://proxy.example:3128',
        no_proxy: '.example',
        PIP_INDEX_URL: 'https://index.example/simple',
      })
      expect(seen.PIP_CERT).toBe(seen.SSL_CERT_FILE)
      expect(seen).not.toHaveProperty('PIP_FIND_LINKS')
      expect(seen).not.toHaveProperty('BERTH_ADMIN_KEY')
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  it('of another instance is used and left to it', async () => {
    const other = await dockerHarness()
    try {
      const spec = wanting()
      const { environment } = await harness.engine.prepare(spec, soon(), ignore)
      expect(await other.engine.prepare({ ...spec, instance: other.instance }, soon(), ignore)).toMatchObject({
        cached: true,
      })
      expect(await other.engine.environments.prune(new Set())).toEqual([])
      expect(await harness.engine.environments.list()).toContainEqual(environment)
    } finally {
      await other.dispose()
    }
  })

  it('leaves no container behind that was never started', async () => {
    await vi.waitFor(async () => {
      const left = await docker(
        'ps',
        '--all',
        '--quiet',
        '--filter',
        `label=dev.berth.instance=${harness.instance}`,
        '--filter',
        'label=dev.berth.role=helper',
      )
      expect(left).toBe('')
    }, patience)
  })
})
