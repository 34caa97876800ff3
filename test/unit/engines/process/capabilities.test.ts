import { totalmem } from 'node:os'
import { describe, expect, it } from 'vitest'
import { assertSupported, processCapabilities } from '../../../../orchestrator/engines/process/capabilities.ts'
import { parseGpus } from '../../../../orchestrator/engines/process/gpus.ts'

const devices = parseGpus('GPU-aaa, 81559\nGPU-bbb, [N/A]\n\nNo devices were found\n')

describe('GPUs of the machine', () => {
  it("are read from the driver's tool", () => {
    expect(devices).toEqual([
      { id: 'GPU-aaa', kind: 'nvidia', via: 'host', memoryBytes: 81559 * 1024 ** 2 },
      { id: 'GPU-bbb', kind: 'nvidia', via: 'host' },
    ])
  })
})

it('memory of the machine is what its modules may have at most', () => {
  const { memoryBytes } = processCapabilities([])
  expect(memoryBytes).toBeGreaterThan(0)
  expect(memoryBytes).toBeLessThanOrEqual(totalmem())
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
