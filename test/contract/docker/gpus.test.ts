import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connectionFrom } from '../../../orchestrator/engines/docker/connection.ts'
import { workloadOptions } from '../../../orchestrator/engines/docker/container-config.ts'
import { Daemon } from '../../../orchestrator/engines/docker/daemon.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { testProtocolImage } from '../../support/docker-images.ts'
import { type DockerHarness, dockerHarness, ignore, inside, inspect, soon } from './harness.ts'

/** GPUs, simulated by .ci/provision: CDI devices `nvidia.com/gpu=0` and `1`, and device requests that the daemon accepts. */
describe.skipIf(!dockerAvailable)('a GPU', () => {
  let harness: DockerHarness
  beforeAll(async () => {
    harness = await dockerHarness()
  })
  afterAll(() => harness?.dispose())

  const look =
    "return { files: require('fs').readdirSync('/dev').filter((name) => /^nvidia\\d/.test(name)), env: process.env }"
  const startWith = async (devices: readonly string[]) => {
    const gpu = { count: devices.length, optional: false }
    const workload = await harness.start({ gpu, devices })
    const seen = (await inside(workload.endpoint, look)) as { files: string[]; env: Record<string, string> }
    const listed = await harness.engine.list()
    await harness.engine.stop(workload.id, { graceMs: 0 })
    return { workload, seen, listed }
  }

  it('is found, one entry a device', () => {
    expect(harness.engine.capabilities.gpus).toEqual([
      { id: 'nvidia.com/gpu=0', kind: 'nvidia', via: 'cdi' },
      { id: 'nvidia.com/gpu=1', kind: 'nvidia', via: 'cdi' },
    ])
    expect(harness.engine.capabilities.memoryBytes).toBeGreaterThan(0)
  })

  it('is the one that the start was given, seen inside and in listings', async () => {
    const { workload, seen, listed } = await startWith(['nvidia.com/gpu=1'])
    expect(workload.gpus).toEqual(['nvidia.com/gpu=1'])
    expect(listed).toMatchObject([{ gpus: ['nvidia.com/gpu=1'] }])
    expect(seen.files).toEqual(['nvidia1'])
    expect(seen.env).toMatchObject({ NVIDIA_VISIBLE_DEVICES: '1', CUDA_VISIBLE_DEVICES: '0' })
  })

  it('is one of two, which count from 0 inside', async () => {
    const { seen } = await startWith(['nvidia.com/gpu=0', 'nvidia.com/gpu=1'])
    expect(seen.files.sort()).toEqual(['nvidia0', 'nvidia1'])
    expect(seen.env).toMatchObject({ NVIDIA_VISIBLE_DEVICES: '0,1', CUDA_VISIBLE_DEVICES: '0,1' })
  })

  it('is not given to a start without devices', async () => {
    const { seen } = await startWith([])
    expect(seen.files).toEqual([])
    expect(seen.env).toMatchObject({ NVIDIA_VISIBLE_DEVICES: 'void' })
    expect(seen.env).not.toHaveProperty('CUDA_VISIBLE_DEVICES')
  })

  it('that is not there is an error, or no reason not to prepare an optional request', async () => {
    const spec = harness.spec({ gpu: { count: 3, optional: false } })
    await expect(harness.engine.prepare(spec, soon(), ignore)).rejects.toMatchObject({
      code: 'GPU_UNAVAILABLE',
      details: { module: 'probe', field: 'gpu.count' },
    })
    await harness.engine.prepare(harness.spec({ gpu: { count: 3, optional: true } }), soon(), ignore)
    const gone = harness.spec({ devices: ['nvidia.com/gpu=7'] })
    await expect(harness.engine.start(gone, soon())).rejects.toMatchObject({ code: 'GPU_UNAVAILABLE' })
  })

  it('can be had by device request too', async () => {
    const gpus = [{ id: '1', kind: 'nvidia', via: 'device-request' }] as const
    const host = { init: false, cpus: 1, localLogs: false, deviceGroups: [] }
    const parts = { imageId: await testProtocolImage(), gpus, networkId: 'none' }
    const daemon = await Daemon.open(connectionFrom(process.env), soon())
    try {
      const options = { ...workloadOptions(harness.spec(), parts, host), Entrypoint: ['env'], Cmd: [] }
      const id = await daemon.createContainer(undefined, options, soon())
      await daemon.startContainer(id, soon())
      expect(await daemon.wait(id, 'not-running', soon())).toBe(0)
      const seen = (await docker('logs', id)).split('\n')
      expect(seen).toContain('NVIDIA_VISIBLE_DEVICES=1')
      expect(seen).toContain('CUDA_VISIBLE_DEVICES=0')
      expect((await inspect(id)).HostConfig.DeviceRequests).toMatchObject([{ DeviceIDs: ['1'] }])
      await daemon.removeContainer(id)
    } finally {
      daemon.close()
    }
  })
})
