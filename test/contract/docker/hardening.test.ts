import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { type DockerHarness, dockerHarness, inside, inspect } from './harness.ts'

/** How a module is confined, as `docker inspect` tells it and as the module sees it. */
describe.skipIf(!dockerAvailable)('a module container', () => {
  let harness: DockerHarness
  let locked: Awaited<ReturnType<DockerHarness['start']>>

  beforeAll(async () => {
    harness = await dockerHarness()
    locked = await harness.start({ limits: { pids: 123, cpus: 0.5, memoryBytes: 512 * 1024 * 1024 } })
  })
  afterAll(() => harness?.dispose())

  it('is hardened', async () => {
    const { Config, HostConfig } = await inspect(locked.id)
    expect(Config.User).toBe('10001:10001')
    expect(HostConfig).toMatchObject({
      Privileged: false,
      ReadonlyRootfs: true,
      CapAdd: null,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
      PidsLimit: 123,
      NanoCpus: 500_000_000,
      Memory: 512 * 1024 * 1024,
      RestartPolicy: { Name: 'no' },
      Binds: null,
      PidMode: '',
      IpcMode: 'private',
    })
    expect(HostConfig.LogConfig).toMatchObject({ Config: { 'max-size': '10m' } })
  })

  it('is labelled with what it is', async () => {
    const { Config } = await inspect(locked.id)
    expect(Config.Labels).toMatchObject({
      'dev.berth.instance': harness.instance,
      'dev.berth.module': 'probe',
      'dev.berth.replica': 'probe-0',
      'dev.berth.generation': '1',
      'dev.berth.spec-hash': locked.spec.specHash,
    })
  })

  it('runs without rights', async () => {
    const status = String(
      await inside(locked.endpoint, "return require('fs').readFileSync('/proc/self/status', 'utf8')"),
    )
    expect(status).toMatch(/^Uid:\s+10001\s+10001\s+10001\s+10001$/m)
    expect(status).toMatch(/^Gid:\s+10001\s+10001\s+10001\s+10001$/m)
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb'])
      expect(status).toMatch(new RegExp(`^${set}:\\s+0+$`, 'm'))
    expect(status).toMatch(/^NoNewPrivs:\s+1$/m)
    expect(status).toMatch(/^Seccomp:\s+2$/m)
  })

  it('may write its data, the model cache and temporary files, and nothing else', async () => {
    const write = (path: string): Promise<unknown> =>
      inside(
        locked.endpoint,
        `try { require('fs').writeFileSync('${path}', 'x'); return 'written' } catch (error) { return error.code }`,
      )
    expect(await write('/berth/data/module/x')).toBe('written')
    expect(await write('/berth/data/module/home/x')).toBe('written')
    expect(await write('/berth/cache/models/x')).toBe('written')
    expect(await write('/tmp/x')).toBe('written')
    expect(await write('/run/berth/x')).toBe('written')
    expect(await write('/x')).toBe('EROFS')
    expect(await write('/usr/x')).toBe('EROFS')
    expect(await write('/berth/runner/x')).toBe('EROFS')
    expect(await write('/berth/module/probe/service.py')).toBe('EACCES')
    expect(await write('/berth/module/probe/x')).toBe('EACCES')
    expect(await write('/berth/data/x')).toBe('EACCES')
  })

  it('runs no program of temporary files with the rights of their owner', async () => {
    expect(await inside(locked.endpoint, "return require('fs').readFileSync('/proc/mounts', 'utf8')")).toMatch(
      / \/tmp tmpfs rw,nosuid,nodev/,
    )
  })

  it('has no way out without `network: egress`', async () => {
    const attempts = await inside(
      locked.endpoint,
      `const connect = (host, port) => new Promise((resolve) => {
         const socket = require('net').connect({ host, port, timeout: 3000 })
         socket.on('connect', () => resolve('connected')).on('error', (error) => resolve(error.code)).on('timeout', () => resolve('no answer'))
       })
       const resolve = (name) => require('dns').promises.lookup(name).then(() => 'resolved', () => 'no address')
       return { routes: require('fs').readFileSync('/proc/net/route', 'utf8'),
                outside: await connect('192.0.2.1', 80), name: await resolve('example.com') }`,
    )
    expect(attempts).toMatchObject({ outside: 'ENETUNREACH', name: 'no address' })
    expect((attempts as { routes: string }).routes).not.toMatch(/^\S+\t00000000\t/m)
  })

  it('has a way out with it', async () => {
    const open = await harness.start({ replica: 'probe-open', network: 'egress' })
    const routes = await inside(open.endpoint, "return require('fs').readFileSync('/proc/net/route', 'utf8')")
    expect(routes).toMatch(/^\S+\t00000000\t/m)
    await harness.engine.stop(open.id, { graceMs: 0 })
  })

  it('does not reach another module', async () => {
    const other = await harness.start({
      module: 'slow-install',
      requirements: { extra: [], hash: 'none', empty: true },
    })
    if (other.endpoint.kind !== 'tcp') throw new Error('a container answers on TCP')
    const { host, port } = other.endpoint
    const seen = await inside(
      locked.endpoint,
      `return fetch('http://${host}:${port}/health', { signal: AbortSignal.timeout(3000) }).then(() => 'reached', () => 'not reached')`,
    )
    expect(seen).toBe('not reached')
    await harness.engine.stop(other.id, { graceMs: 0 })
  })

  it('gets its configuration, token and folders', async () => {
    const module = JSON.parse(String(await inside(locked.endpoint, 'return process.env.BERTH_MODULE')))
    expect(module).toMatchObject({
      id: 'probe',
      entry: 'service.py',
      paths: { module: '/berth/module/probe', data: '/berth/data/module' },
    })
    const { BERTH_TOKEN, HOME } = (await inside(locked.endpoint, 'return process.env')) as Record<string, string>
    expect({ BERTH_TOKEN, HOME }).toEqual({ BERTH_TOKEN: locked.spec.token, HOME: '/berth/data/module/home' })
  })

  it('has zombies reaped where the daemon can', async () => {
    const { HostConfig } = await inspect(locked.id)
    const installed = JSON.parse(await docker('version', '--format', '{{json .Server.Components}}')) as {
      Name: string
      Version: string
    }[]
    const init = installed.some(({ Name, Version }) => Name === 'docker-init' && /^\d/.test(Version))
    expect(HostConfig.Init).toBe(init)
  })
})
