import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ForeignWorkload } from '../../../orchestrator/engines/engine.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { testProtocolImage, testRunnerImage } from '../../support/docker-images.ts'
import { runForeign } from '../../support/foreign.ts'
import { type DockerHarness, dockerHarness, untilHealthy } from './harness.ts'

/** Containers that somebody else runs, wherever the orchestrator is and however they are reached. */
describe.skipIf(!dockerAvailable)('containers that somebody else runs', () => {
  let harness: DockerHarness
  let labels: Record<string, string>
  let shared: string
  let apart: string
  const made: string[] = []

  beforeAll(async () => {
    harness = await dockerHarness()
    const { instance } = harness
    labels = { 'dev.berth.module': '{"id":"theirs","models":["theirs"]}', 'dev.berth.for': instance }
    shared = `${instance}-shared`
    apart = `${instance}-apart`
    for (const [network, subnet] of [
      [shared, '10.214.251.0/28'],
      [apart, '10.214.251.16/28'],
    ] as const)
      await docker('network', 'create', '--subnet', subnet, '--label', `dev.berth.instance=${instance}`, network)
  })
  afterAll(async () => {
    if (made.length > 0) await docker('rm', '--force', ...made)
    await harness?.dispose()
  })

  async function start(name: string, options: readonly string[], more: Record<string, string> = {}): Promise<string> {
    const id = await runForeign({ name: `${harness.instance}-${name}`, labels: { ...labels, ...more }, options })
    made.push(id)
    return id
  }
  async function seen(id: string, engine = harness.engine): Promise<ForeignWorkload> {
    const found = (await engine.discover?.())?.find((each) => each.id === id)
    if (found === undefined) throw new Error('it is not seen')
    return found
  }

  it('answer at the address of any of their networks, and at the port that BERTH_PORT names', async () => {
    const id = await start('port', ['--network', apart, '--env', 'BERTH_PORT=9123'])
    const { endpoint } = await seen(id)
    expect(endpoint).toMatchObject({ kind: 'tcp', port: 9123, host: expect.stringMatching(/^10\.214\.251\./) })
    if (endpoint !== undefined) await untilHealthy(endpoint)
  })

  it('answer on this machine where they have its network', async () => {
    const id = await start('host', ['--network', 'host', '--env', 'BERTH_PORT=48123'])
    const { endpoint } = await seen(id)
    expect(endpoint).toEqual({ kind: 'tcp', host: '127.0.0.1', port: 48_123 })
    if (endpoint !== undefined) await untilHealthy(endpoint)
  })

  it('that have no network are told apart from those in reach, with what to do', async () => {
    const id = await start('nowhere', ['--network', 'none'])
    const { problem, endpoint, state } = await seen(id)
    expect({ endpoint, state }).toEqual({ endpoint: undefined, state: 'running' })
    expect(problem).toMatchObject({ code: 'RUNNER_UNREACHABLE', message: expect.stringContaining('give it a network') })
  })

  it('are reached by a published port where addresses are not', async () => {
    const engine = await harness.open({ reach: 'publish' })
    const { endpoint } = await seen(await start('published', ['--publish', '127.0.0.1::8000']), engine)
    if (endpoint?.kind !== 'tcp') throw new Error('it has no endpoint')
    expect(endpoint).toMatchObject({ host: '127.0.0.1', port: expect.toSatisfy((port: number) => port !== 8000) })
    await untilHealthy(endpoint)
    const { problem } = await seen(await start('unpublished', []), engine)
    expect(problem?.message).toContain('its port 8000 is not published')
  })

  it("carry their image's labels, and compose's names for people", async () => {
    const marks = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'prices' }
    const pairs = Object.entries({ ...marks, 'dev.berth.for': harness.instance })
    const image = await testProtocolImage()
    const id = await docker('run', '--detach', ...pairs.flatMap(([k, v]) => ['--label', `${k}=${v}`]), image)
    made.push(id)
    expect(await seen(id)).toMatchObject({
      group: 'compose service shop/prices',
      image,
      labels: { 'dev.berth.module': '{"id":"other","models":{"other":{}}}' },
    })
  })

  it('are paused without being taken for gone', async () => {
    const id = await start('paused', [])
    await docker('pause', id)
    expect(await seen(id)).toMatchObject({ state: 'paused' })
    expect((await seen(id)).endpoint).toBeUndefined()
    await docker('unpause', id)
    expect(await seen(id)).toMatchObject({ state: 'running', endpoint: expect.anything() })
  })

  it('count only as the service itself, not as a command that compose runs in its image', async () => {
    const id = await start('once', [], { 'com.docker.compose.oneoff': 'True' })
    expect((await harness.engine.discover?.())?.map((each) => each.id)).not.toContain(id)
  })

  it('are reached by an orchestrator in a container on a network of both, and only there', async () => {
    await start('beside', ['--network', shared])
    await start('elsewhere', ['--network', apart])
    const root = process.cwd()
    const socket = '/var/run/docker.sock'
    const mounts = ['--volume', `${socket}:${socket}`, '--volume', `${root}:${root}:ro`, '--workdir', root]
    const marks = ['--network', shared, '--label', `dev.berth.instance=${harness.instance}`]
    const program = ['node', 'test/testdata/docker/beside-foreign.ts', harness.instance, await testRunnerImage()]
    const said = await docker('run', '--rm', ...marks, ...mounts, 'node:24-trixie-slim', ...program)
    const all = JSON.parse(said.split('\n').at(-1) ?? '') as { container: string; status?: number; problem?: string }[]
    const of = (name: string) => all.find(({ container }) => container === `${harness.instance}-${name}`)
    expect(of('beside')).toMatchObject({ status: 200 })
    expect(of('elsewhere')?.problem).toContain(`it is on no network of Berth's own container (${apart})`)
  })
})
