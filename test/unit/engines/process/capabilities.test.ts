import { describe, expect, it } from 'vitest'
import { assertSupported, chooseGpus } from '../../../../orchestrator/engines/process/capabilities.ts'
import { parseGpus } from '../../../../orchestrator/engines/process/gpus.ts'

const devices = parseGpus('GPU-aaa, 81559\nGPU-bbb, [N/A]\n\nNo devices were found\n')

describe('GPUs of the machine', () => {
  it("are read from the driver's tool", () => {
    expect(devices).toEqual([
      { id: 'GPU-aaa', kind: 'nvidia', via: 'host', memoryBytes: 81559 * 1024 ** 2 },
      { id: 'GPU-bbb', kind: 'nvidia', via: 'host' },
    ])
  })

  it('are given to those who ask, the least held first', () => {
    const holders = (id: string): number => (id === 'GPU-aaa' ? 1 : 0)
    expect(chooseGpus('m', undefined, devices, holders)).toEqual([])
    expect(chooseGpus('m', { count: 1, optional: false }, devices, holders)).toEqual(['GPU-bbb'])
    expect(chooseGpus('m', { count: 2, optional: false }, devices, holders)).toEqual(['GPU-bbb', 'GPU-aaa'])
  })

  it('are an error when there are too few, unless they are optional', () => {
    expect(chooseGpus('m', { count: 3, optional: true }, devices, () => 0)).toEqual([])
    expect(() => chooseGpus('m', { count: 3, optional: false }, devices, () => 0)).toThrow(
      expect.objectContaining({ code: 'GPU_UNAVAILABLE', details: expect.objectContaining({ module: 'm' }) }),
    )
  })
})

describe('bases', () => {
  it('that need a container engine are refused with what to do', () => {
    expect(() => assertSupported('m', { kind: 'default' })).not.toThrow()
    expect(() => assertSupported('m', { kind: 'dockerfile', dockerfile: 'Dockerfile', context: '.' })).toThrow(
      expect.objectContaining({
        code: 'ENGINE_UNSUPPORTED',
        details: expect.objectContaining({ field: 'dockerfile', remedy: expect.stringContaining('Docker') }),
      }),
    )
  })
})
