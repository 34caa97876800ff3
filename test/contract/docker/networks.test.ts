import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { testProtocolImage } from '../../support/docker-images.ts'
import { type DockerHarness, dockerHarness, ignore, inside, soon, untilHealthy } from './harness.ts'

/** Networks: one a module, each in a small subnet of its own. */
describe.skipIf(!dockerAvailable)('a module network', () => {
  let harness: DockerHarness
  beforeAll(async () => {
    harness = await dockerHarness({ subnets: ['10.214.0.0/24'] })
  })
  afterAll(() => harness?.dispose())

  interface NetworkView {
    readonly Id: string
    readonly Internal: boolean
    readonly Labels: Readonly<Record<string, string>>
    readonly IPAM: { readonly Config: readonly { readonly Subnet: string }[] }
  }
  const networks = async (module: string): Promise<readonly NetworkView[]> => {
    const marks = [
      '--filter',
      `label=dev.berth.instance=${harness.instance}`,
      '--filter',
      `label=dev.berth.module=${module}`,
    ]
    const ids = (await docker('network', 'ls', '--quiet', ...marks)).split('\n').filter((id) => id !== '')
    return ids.length === 0 ? [] : (JSON.parse(await docker('network', 'inspect', ...ids)) as readonly NetworkView[])
  }

  it('is made once, in a small subnet of the configured range, without a way out', async () => {
    const spec = harness.spec()
    const other = await harness.open()
    await Promise.all(
      [harness.engine, other, harness.engine, other].map((engine) => engine.prepare(spec, soon(), ignore)),
    )
    const found = await networks('probe')
    expect(found).toHaveLength(1)
    expect(found[0]?.Internal).toBe(true)
    expect(found[0]?.IPAM.Config[0]?.Subnet).toMatch(/^10\.214\.0\.\d+\/28$/)
  })

  it('of its own is there for each policy', async () => {
    await harness.engine.prepare(harness.spec({ network: 'egress' }), soon(), ignore)
    expect((await networks('probe')).map(({ Internal }) => Internal).sort()).toEqual([false, true])
    await harness.engine.forget('probe', { data: true })
    expect(await networks('probe')).toEqual([])
  })

  it('avoids the subnets of others, and says what to do when none is left', async () => {
    const crowded = await harness.open({ subnets: ['10.214.1.0/27'] })
    const taken = await docker(
      'network',
      'create',
      '--subnet',
      '10.214.1.16/28',
      '--label',
      `dev.berth.instance=${harness.instance}`,
      `${harness.instance}-taken`,
    )
    try {
      await crowded.prepare(harness.spec({ module: 'probe' }), soon(), ignore)
      expect((await networks('probe'))[0]?.IPAM.Config[0]?.Subnet).toBe('10.214.1.0/28')
      const second = harness.spec({ module: 'installed', requirements: { extra: [], hash: 'none', empty: true } })
      await expect(crowded.prepare(second, soon(), ignore)).rejects.toMatchObject({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringContaining('10.214.1.0/27'),
        details: { field: 'docker.subnets', remedy: expect.stringContaining('docker.subnets') },
      })
    } finally {
      await docker('network', 'rm', taken)
      await crowded.forget('probe', { data: true })
    }
  })

  it('is not given where a route of this machine leads', async () => {
    const bridge = (JSON.parse(await docker('network', 'inspect', 'bridge')) as readonly NetworkView[])[0]?.IPAM
      .Config[0]?.Subnet
    const clashing = await harness.open({ subnets: [bridge ?? '172.17.0.0/16'] })
    await expect(clashing.prepare(harness.spec(), soon(), ignore)).rejects.toMatchObject({
      details: { field: 'docker.subnets' },
    })
  })

  it('that somebody else made under the same name is not used', async () => {
    const name = `berth-${harness.instance}-probe`
    const foreign = await docker('network', 'create', '--subnet', '10.214.2.0/28', name)
    try {
      await expect(harness.engine.prepare(harness.spec(), soon(), ignore)).rejects.toMatchObject({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringContaining(name),
      })
    } finally {
      await docker('network', 'rm', foreign)
    }
  })

  it('lets through published ports only, where container addresses can not be reached', async () => {
    const engine = await harness.open({ reach: 'publish' })
    expect(engine.capabilities.networkPolicy).toBe(false)
    expect(engine.capabilities.weaknesses).toContainEqual(
      expect.objectContaining({ finding: expect.stringContaining('loopback port') }),
    )
    const spec = harness.spec()
    await engine.prepare(spec, soon(), ignore)
    const { id, endpoint } = await engine.start(spec, soon())
    expect(endpoint).toMatchObject({ kind: 'tcp', host: '127.0.0.1' })
    await untilHealthy(endpoint)
    expect(await engine.list()).toMatchObject([{ id, endpoint }])
    expect(await docker('port', id)).toMatch(/^8000\/tcp -> 127\.0\.0\.1:\d+$/)
    await engine.stop(id, { graceMs: 0 })
    await engine.forget('probe', { data: true })
  })

  it('is there for each of forty modules of one instance, more than the daemon’s own address pools hold', async () => {
    const image = await testProtocolImage()
    const engine = await harness.open({ subnets: ['10.214.16.0/20'] })
    const ids = Array.from({ length: 40 }, (_, number) => `many-${number}`)
    const specs = ids.map((module) => {
      const { folder: _folder, ...spec } = harness.spec({
        base: { kind: 'protocol', image },
        replica: `${module}-0`,
        limits: { pids: 16, memoryBytes: 64 * 1024 * 1024 },
      })
      return { ...spec, module, specHash: module }
    })
    await Promise.all(specs.map((spec) => engine.prepare(spec, soon(), ignore)))
    // All networks are there at once; containers on the first and the last of them answer and do not see each other.
    const found = await Promise.all(ids.map(networks))
    expect(found.map((each) => each.length)).toEqual(ids.map(() => 1))
    const subnets = found.map(([each]) => each?.IPAM.Config[0]?.Subnet)
    expect(new Set(subnets).size).toBe(40)
    const [first, last] = await Promise.all(
      [specs[0], specs.at(-1)].map(async (spec) => {
        if (spec === undefined) throw new Error('there are forty')
        const workload = await engine.start(spec, soon())
        await untilHealthy(workload.endpoint)
        return workload
      }),
    )
    if (first?.endpoint.kind !== 'tcp' || last?.endpoint.kind !== 'tcp') throw new Error('a container answers on TCP')
    const reach = `import socket; socket.create_connection(("${last.endpoint.host}", 8000), 2)`
    await expect(docker('exec', first.id, 'python3', '-c', reach)).rejects.toThrow(/timed out|unreachable|refused/)
    for (const { id } of [first, last]) await engine.stop(id, { graceMs: 0 })
    await Promise.all(ids.map((id) => engine.forget(id, { data: true })))
    expect((await Promise.all(ids.map(networks))).flat()).toEqual([])
  })

  it('holds replicas of one module that reach each other', async () => {
    const one = await harness.start({ replica: 'probe-0' })
    const other = await harness.start({ replica: 'probe-1' })
    if (other.endpoint.kind !== 'tcp') throw new Error('a container answers on TCP')
    expect(await inside(one.endpoint, `return (await fetch('http://${other.endpoint.host}:8000/health')).status`)).toBe(
      200,
    )
    for (const { id } of [one, other]) await harness.engine.stop(id, { graceMs: 0 })
  })
})
