import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { fakeNvidiaSmi } from '../../support/fake-nvidia-smi.ts'
import { start } from './support.ts'

const mib = 1024 * 1024

function fake(...args: Parameters<typeof fakeNvidiaSmi> extends [string, ...infer Rest] ? Rest : never) {
  const folder = mkdtempSync(join(tmpdir(), 'berth-smi-'))
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  return fakeNvidiaSmi(folder, ...args)
}

it('memory of the devices given is measured in the background, with what the module itself uses', async () => {
  const smi = fake([
    { uuid: 'GPU-a', total: 8000, used: 1000 },
    { uuid: 'GPU-b', total: 8000, used: 3000 },
  ])
  const env = { PATH: smi.path, NVIDIA_VISIBLE_DEVICES: 'GPU-b' }
  const runner = await start({ module: 'basic', env })
  const { gpuMemory } = await runner.until((health) => health.gpuMemory !== undefined)
  expect(gpuMemory).toEqual({ ageMs: expect.any(Number), devices: { 0: { used: 3000 * mib } } })

  smi.tell([
    { uuid: 'GPU-a', total: 8000, used: 1000 },
    {
      uuid: 'GPU-b',
      total: 8000,
      used: 5000,
      processes: [
        { pid: runner.workerPid(), used: 1500 },
        { pid: process.pid, used: 500 },
      ],
    },
  ])
  // A load is followed by a measurement, whenever the next would have been due.
  await runner.load({ m: {} })
  const after = await runner.until((health) => health.gpuMemory?.devices[0]?.used === 5000 * mib)
  expect(after.gpuMemory?.devices).toEqual({ 0: { used: 5000 * mib, own: 1500 * mib } })
})

it('devices of a container are counted as it sees them', async () => {
  const smi = fake([{ uuid: 'GPU-a', total: 8000, used: 1000 }])
  const runner = await start({ module: 'basic', env: { PATH: smi.path, NVIDIA_VISIBLE_DEVICES: '3' } })
  const { gpuMemory } = await runner.until((health) => health.gpuMemory !== undefined)
  expect(gpuMemory?.devices).toEqual({ 0: { used: 1000 * mib } })
})

it('nothing is measured without a device', async () => {
  const smi = fake([{ uuid: 'GPU-a', total: 8000, used: 1000 }])
  const runner = await start({ module: 'basic', env: { PATH: smi.path, NVIDIA_VISIBLE_DEVICES: 'void' } })
  await runner.load({ m: {} })
  expect(await runner.health()).not.toHaveProperty('gpuMemory')
})
