import { describe, expect, it } from 'vitest'
import { installerOptions, workloadOptions } from '../../../../orchestrator/engines/docker/container-config.ts'
import { engineSpec } from '../../../support/engine-spec.ts'

const host = { init: true, cpus: 2, localLogs: true, deviceGroups: [44] }
const parts = { imageId: 'sha256:abc', runnerVolume: 'berth-runner-1', networkId: 'network', gpus: [] }
const mounts = (options: ReturnType<typeof workloadOptions>) =>
  (options.HostConfig?.Mounts ?? []).map(
    ({ Source, Target, ReadOnly = false }) => `${Source} ${Target}${ReadOnly ? ' ro' : ''}`,
  )

describe('the options of a workload', () => {
  it('lock it', () => {
    const { User, HostConfig } = workloadOptions(engineSpec('i'), parts, host)
    expect(User).toBe('10001:10001')
    expect(HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
      PidsLimit: 256,
      Privileged: false,
      RestartPolicy: { Name: 'no' },
      Init: true,
      NetworkMode: 'network',
    })
    expect(HostConfig).not.toHaveProperty('Binds')
    expect(HostConfig).not.toHaveProperty('CapAdd')
  })

  it('mount the runner and the environment read-only, its files, its data and the model cache', () => {
    expect(mounts(workloadOptions(engineSpec('i'), { ...parts, environmentKey: 'key' }, host))).toEqual([
      'berth-runner-1 /berth/runner ro',
      ' /berth/module',
      'berth-i-probe-data /berth/data',
      'berth-i-models /berth/cache',
      'berth-env-key /berth/env ro',
    ])
  })

  it('give the runner its variables, which the module’s own can not replace', () => {
    const { Env = [] } = workloadOptions(engineSpec('i', { env: { BERTH_TOKEN: 'mine', HOME: '/home' } }), parts, host)
    expect(Env).toContain('BERTH_TOKEN=token-of-the-contract')
    expect(Env).toContain('BERTH_PORT=8000')
    expect(Env).toContain('HOME=/home')
    expect(Env.filter((entry) => entry.startsWith('BERTH_TOKEN='))).toHaveLength(1)
  })

  it('hold limits within what the machine has', () => {
    const limits = { pids: 9, cpus: 64, memoryBytes: 256 * 1024 ** 2 }
    const { HostConfig } = workloadOptions(engineSpec('i', { limits }), parts, host)
    expect(HostConfig).toMatchObject({
      PidsLimit: 9,
      NanoCpus: 2e9,
      Memory: limits.memoryBytes,
      MemorySwap: limits.memoryBytes,
    })
    expect(HostConfig?.Tmpfs?.['/tmp']).toContain(`size=${limits.memoryBytes / 2}`)
  })

  it('publish the port only where they are told to', () => {
    expect(workloadOptions(engineSpec('i'), parts, host).HostConfig).not.toHaveProperty('PortBindings')
    const published = workloadOptions(engineSpec('i'), { ...parts, publishAt: '127.0.0.1' }, host)
    expect(published.HostConfig?.PortBindings).toEqual({ '8000/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] })
  })

  it('leave an image that speaks the protocol its program and its user', () => {
    const { runnerVolume: _runner, ...own } = parts
    const options = workloadOptions(engineSpec('i'), { ...own, imageUser: 'app' }, host)
    expect(options).toMatchObject({ User: 'app' })
    expect(options).not.toHaveProperty('Entrypoint')
    expect(mounts(options)).toEqual([])
    expect(options.Env?.map((entry) => entry.split('=')[0])).toEqual([
      'BERTH_PORT',
      'BERTH_TOKEN',
      'NVIDIA_VISIBLE_DEVICES',
    ])
  })

  it('ask for AMD’s devices by their files, with the groups that own them', () => {
    const gpus = [{ id: '/dev/dri/renderD128', kind: 'amd', via: 'device-file' }] as const
    const { Env, HostConfig } = workloadOptions(engineSpec('i'), { ...parts, gpus }, host)
    expect(HostConfig?.Devices).toMatchObject([{ PathOnHost: '/dev/kfd' }, { PathOnHost: '/dev/dri/renderD128' }])
    expect(HostConfig?.GroupAdd).toEqual(['44'])
    expect(Env).toContain('HIP_VISIBLE_DEVICES=0')
  })

  it('refuse a configuration that no start can carry', () => {
    const spec = engineSpec('i')
    const runner = { ...spec.runner, models: { probe: { text: 'x'.repeat(200_000) } } }
    expect(() => workloadOptions({ ...spec, runner }, parts, host)).toThrow(
      expect.objectContaining({ code: 'MANIFEST_INVALID' }),
    )
  })
})

describe('the options of an installer', () => {
  const order = {
    key: 'key',
    folder: '/berth/env/env',
    module: '/berth/module/probe',
    extra: [],
    gpu: 'NO_GPU',
    cache: '/berth/downloads/cache',
  } as const

  it('lock it too, with the environment writable and the runner not', () => {
    const options = installerOptions(engineSpec('i'), { ...parts, order: { ...order, extra: [] }, env: {} }, host)
    expect(options.User).toBe('10001:10001')
    expect(options.HostConfig).toMatchObject({
      ReadonlyRootfs: true,
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
    })
    expect(mounts(options)).toEqual([
      'berth-runner-1 /berth/runner ro',
      ' /berth/module',
      ' /berth/scratch',
      'berth-env-key /berth/env',
      'berth-cache-downloads /berth/downloads',
    ])
  })
})
