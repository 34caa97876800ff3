import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { amdByFile, cdiDevices, namesOfSpec, parseSmi } from '../../../../orchestrator/engines/docker/gpus.ts'

describe('CDI', () => {
  it('lists a device once, whatever else it is called', () => {
    const names = [
      'nvidia.com/gpu=10',
      'nvidia.com/gpu=2',
      'nvidia.com/gpu=GPU-8f',
      'nvidia.com/gpu=all',
      'other.com/net=eth0',
    ]
    expect(cdiDevices(names)).toEqual([
      { id: 'nvidia.com/gpu=2', kind: 'nvidia', via: 'cdi' },
      { id: 'nvidia.com/gpu=10', kind: 'nvidia', via: 'cdi' },
    ])
  })

  it('goes by the names where there are no indexes', () => {
    expect(cdiDevices(['nvidia.com/gpu=all', 'nvidia.com/gpu=GPU-8f']).map(({ id }) => id)).toEqual([
      'nvidia.com/gpu=GPU-8f',
    ])
    expect(cdiDevices(['nvidia.com/gpu=all'])).toEqual([])
    expect(cdiDevices(['amd.com/gpu=0'])).toEqual([{ id: 'amd.com/gpu=0', kind: 'amd', via: 'cdi' }])
  })

  it('is read from specifications in YAML and JSON, broken ones left out', () => {
    expect(namesOfSpec('cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n  - name: "0"\n  - name: all\n')).toEqual([
      'nvidia.com/gpu=0',
      'nvidia.com/gpu=all',
    ])
    expect(namesOfSpec('{"kind":"amd.com/gpu","devices":[{"name":"0"}]}')).toEqual(['amd.com/gpu=0'])
    expect(namesOfSpec('{')).toEqual([])
    expect(namesOfSpec('')).toEqual([])
  })
})

it('nvidia-smi tells index and memory', () => {
  expect(parseSmi('0, 143771\n1, [N/A]\nno devices were found\n')).toEqual([
    ['0', 143_771 * 1024 * 1024],
    ['1', undefined],
  ])
})

describe('AMD’s device files', () => {
  let root: string
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'berth-amd-'))
    for (const [node, driver] of [
      ['renderD128', 'amdgpu'],
      ['renderD129', 'i915'],
    ]) {
      const device = join(root, 'sys/class/drm', node ?? '', 'device')
      await mkdir(device, { recursive: true })
      await symlink(`../../../bus/pci/drivers/${driver}`, join(device, 'driver'))
      await writeFile(join(device, 'mem_info_vram_total'), '17163091968\n')
    }
  })
  afterEach(() => rm(root, { recursive: true }))

  it('are those of its own driver, where its compute driver is there', async () => {
    expect(await amdByFile(root)).toEqual([])
    await mkdir(join(root, 'dev'))
    await writeFile(join(root, 'dev/kfd'), '')
    expect(await amdByFile(root)).toEqual([
      { id: '/dev/dri/renderD128', kind: 'amd', via: 'device-file', memoryBytes: 17_163_091_968 },
    ])
  })
})
