import { beforeEach, describe, expect, it } from 'vitest'
import type { Claim, Machine } from '../../../../orchestrator/lifecycle/resources/holdings.ts'
import { Ledger, type Measurement } from '../../../../orchestrator/lifecycle/resources/ledger.ts'
import { machineOf } from '../../../../orchestrator/lifecycle/resources/machine.ts'

const machine: Machine = { devices: [{ id: 'gpu0', sizeBytes: 24 }], memoryBytes: 100 }
let ledger: Ledger
beforeEach(() => {
  ledger = new Ledger(() => machine)
})

const share = (module: string, memoryBytes: number): Claim => ({
  module,
  replica: `${module}-0`,
  memoryBytes: 0,
  gpu: { count: 1, optional: false, memoryBytes },
  urgent: true,
})
const fits = (claim: Claim) => {
  const { granted } = ledger.place(claim, () => new Map())
  if (granted) ledger.release(claim.replica, 0)
  else ledger.withdraw(claim.replica)
  return granted
}
const figures = (atMs: number, usedBytes: number, ownBytes?: number): Measurement => ({
  atMs,
  devices: new Map([['gpu0', { usedBytes, ...(ownBytes === undefined ? {} : { ownBytes }) }]]),
})

describe('measured memory', () => {
  it('counts where it is more than what was asked for', () => {
    ledger.place(share('a', 4), () => new Map())
    expect(fits(share('b', 20))).toBe(true)
    ledger.measure('a-0', figures(1, 10, 10))
    expect(fits(share('b', 15))).toBe(false)
    expect(fits(share('b', 14))).toBe(true)
    ledger.measure('a-0', figures(2, 1, 1))
    expect(fits(share('b', 20))).toBe(true)
    expect(fits(share('b', 21))).toBe(false)
  })

  it('of a whole device is that of its only holder, where the driver tells no more', () => {
    ledger.place(share('a', 4), () => new Map())
    ledger.measure('a-0', figures(1, 10))
    expect(ledger.devices()[0]).toMatchObject({ usedBytes: 10, holders: [{ measuredBytes: 10, heldBytes: 10 }] })
  })

  it('that no holder explains is somebody else’s, and stays', () => {
    ledger.place(share('a', 4), () => new Map())
    ledger.place(share('b', 4), () => new Map())
    ledger.measure('a-0', figures(1, 18))
    expect(fits(share('c', 7))).toBe(false)
    expect(fits(share('c', 6))).toBe(true)
  })

  it('from before the last change on the device is dropped', () => {
    ledger.place(share('a', 4), () => new Map())
    ledger.place(share('b', 4), () => new Map())
    ledger.measure('a-0', figures(1, 20, 10))
    ledger.rest('b-0', 5)
    ledger.measure('a-0', figures(5, 20, 10))
    expect(ledger.devices()[0]).toMatchObject({ usedBytes: 10 })
    ledger.measure('a-0', figures(6, 11, 11))
    expect(ledger.devices()[0]).toMatchObject({ usedBytes: 11 })
  })

  it('of a holder without models is what its process still has', () => {
    ledger.place(share('a', 20), () => new Map())
    ledger.rest('a-0', 1)
    expect(ledger.devices()[0]).toMatchObject({ usedBytes: 0, holders: [{ declaredBytes: 20, heldBytes: 0 }] })
    ledger.measure('a-0', figures(2, 3, 3))
    expect(fits(share('b', 22))).toBe(false)
    expect(fits(share('b', 21))).toBe(true)
  })
})

it('what runs already has what it has, whether or not there is enough', () => {
  const running = { module: 'a', memoryBytes: 80, devices: ['gpu0'], active: true }
  ledger.adopt({ ...running, replica: 'a-0' })
  ledger.adopt({ ...running, replica: 'a-1' })
  expect(ledger.memory).toEqual({ totalBytes: 100, heldBytes: 160 })
  expect(fits(share('b', 1))).toBe(false)
  expect(fits({ module: 'b', replica: 'b-0', memoryBytes: 0, urgent: true })).toBe(true)
})

describe('the machine', () => {
  const gpus = [
    { id: 'gpu0', kind: 'nvidia', via: 'cdi', memoryBytes: 24 },
    { id: 'gpu1', kind: 'nvidia', via: 'cdi' },
    { id: '/dev/dri/renderD128', kind: 'amd', via: 'device-file' },
  ] as const

  it('has devices of one kind, and its memory less a reserve', () => {
    expect(machineOf({ gpus, memoryBytes: 1_000 }, undefined)).toEqual({
      devices: [{ id: 'gpu0', sizeBytes: 24 }, { id: 'gpu1' }],
      memoryBytes: 950,
    })
    expect(machineOf({ gpus: [], memoryBytes: 100 * 1024 ** 3 }, undefined).memoryBytes).toBe(98 * 1024 ** 3)
  })

  it('has the memory that a person says, or any', () => {
    expect(machineOf({ gpus: [], memoryBytes: 1_000 }, 5_000).memoryBytes).toBe(5_000)
    expect(machineOf({ gpus: [], memoryBytes: Number.POSITIVE_INFINITY }, undefined).memoryBytes).toBe(
      Number.POSITIVE_INFINITY,
    )
  })
})
