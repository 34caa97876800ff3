import { describe, expect, it } from 'vitest'
import { alikeDevices, environmentGpu, givenDevices } from '../../../orchestrator/engines/gpu-devices.ts'
import { engineSpec } from '../../support/engine-spec.ts'

const devices = [
  { id: 'nvidia.com/gpu=0', kind: 'nvidia', via: 'cdi', memoryBytes: 8 * 1024 ** 3 },
  { id: 'nvidia.com/gpu=1', kind: 'nvidia', via: 'cdi', memoryBytes: 24 * 1024 ** 3 },
  { id: '/dev/dri/renderD128', kind: 'amd', via: 'device-file' },
] as const

const asking = (count: number, optional = false, gibibytes?: number) =>
  engineSpec('i', {
    gpu: { count, optional, ...(gibibytes === undefined ? {} : { memoryBytes: gibibytes * 1024 ** 3 }) },
  })

describe('the GPUs of a workload', () => {
  it('are of one kind', () => {
    expect(alikeDevices(devices).map(({ id }) => id)).toEqual(['nvidia.com/gpu=0', 'nvidia.com/gpu=1'])
    expect(alikeDevices([])).toEqual([])
  })

  it('are those that it was given', () => {
    expect(givenDevices(engineSpec('i', { devices: ['nvidia.com/gpu=1'] }), devices)).toEqual([devices[1]])
    expect(() => givenDevices(engineSpec('i', { devices: ['nvidia.com/gpu=7'] }), devices)).toThrow(
      expect.objectContaining({ code: 'GPU_UNAVAILABLE', message: expect.stringContaining('nvidia.com/gpu=7') }),
    )
  })

  it('are no part of what it is made of', () => {
    expect(engineSpec('i', { devices: ['nvidia.com/gpu=1'] }).specHash).toBe(engineSpec('i').specHash)
  })
})

describe('the packages of an environment', () => {
  it('are those for the kind of device', () => {
    expect(environmentGpu(asking(2), devices)).toBe('NVIDIA')
    expect(environmentGpu(asking(1, true, 24), devices)).toBe('NVIDIA')
    expect(environmentGpu(asking(1), devices.slice(2))).toBe('AMD')
  })

  it('are for the CPU where there is no GPU, none was asked for, or too few for an optional request', () => {
    expect(environmentGpu(asking(1), [])).toBe('NO_GPU')
    expect(environmentGpu(engineSpec('i'), devices)).toBe('NO_GPU')
    expect(environmentGpu(asking(3, true), devices)).toBe('NO_GPU')
    expect(environmentGpu(asking(2, true, 24), devices)).toBe('NO_GPU')
  })

  it('are refused where there can never be enough devices, or enough memory on them', () => {
    expect(() => environmentGpu(asking(3), devices)).toThrow(
      expect.objectContaining({ code: 'GPU_UNAVAILABLE', details: expect.objectContaining({ field: 'gpu.count' }) }),
    )
    expect(() => environmentGpu(asking(2, false, 24), devices)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining('2 GPU(s) with 24 GiB each; there are: nvidia.com/gpu=0 (8 GiB)'),
        details: expect.objectContaining({ field: 'gpu.memory' }),
      }),
    )
  })
})
