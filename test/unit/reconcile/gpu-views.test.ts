import { expect, it } from 'vitest'
import { gpuUses, gpuViews } from '../../../orchestrator/reconcile/gpu-views.ts'

const accounts = [
  { id: 'gpu0', sizeBytes: 24, holders: [{ module: 'a', replica: 'a-0', exclusive: true, measuredBytes: 9 }] },
  {
    id: 'gpu1',
    sizeBytes: 24,
    usedBytes: 20,
    holders: [
      { module: 'b', replica: 'b-0', exclusive: false, declaredBytes: 8, heldBytes: 8 },
      { module: 'b', replica: 'b-1', exclusive: false, declaredBytes: 8, heldBytes: 0 },
    ],
  },
]

it('a device tells its holders, and what each of them has', () => {
  const devices = [
    { id: 'gpu0', kind: 'nvidia', via: 'cdi', memoryBytes: 24 },
    { id: 'gpu1', kind: 'nvidia', via: 'cdi', memoryBytes: 24 },
    { id: 'other', kind: 'amd', via: 'device-file' },
  ] as const
  expect(gpuViews(devices, accounts)).toEqual([
    {
      id: 'gpu0',
      kind: 'nvidia',
      memory: 24,
      holders: ['a'],
      allocations: [{ module: 'a', replica: 'a-0', exclusive: true, measured: 9 }],
    },
    {
      id: 'gpu1',
      kind: 'nvidia',
      memory: 24,
      used: 20,
      holders: ['b'],
      allocations: [
        { module: 'b', replica: 'b-0', exclusive: false, declared: 8, held: 8 },
        { module: 'b', replica: 'b-1', exclusive: false, declared: 8, held: 0 },
      ],
    },
    { id: 'other', kind: 'amd', holders: [], allocations: [] },
  ])
})

it('metrics tell what is held, the whole of a device that one has alone, and what others use', () => {
  expect(gpuUses(accounts)).toEqual([
    { id: 'gpu0', holder: 'a', bytes: 24 },
    { id: 'gpu1', holder: 'b', bytes: 8 },
    { id: 'gpu1', holder: 'b', bytes: 0 },
    { id: 'gpu1', holder: 'other', bytes: 12 },
  ])
})
