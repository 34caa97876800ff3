import type { Standings } from './eviction.ts'
import {
  type Claim,
  chargeOn,
  type Device,
  type Holding,
  holdersOf,
  holdingOf,
  type Machine,
  memoryHeld,
  type Placement,
  withHolding,
} from './holdings.ts'
import { type Schedule, type Shortage, schedule } from './schedule.ts'

/** What a runner has measured of its devices. */
export interface Measurement {
  /** When, milliseconds of the clock. */
  readonly atMs: number
  readonly devices: ReadonlyMap<string, { readonly ownBytes?: number; readonly usedBytes?: number }>
}

const nothingFree: Shortage = { of: 'gpu', devices: [], holders: [], roomIsMade: false, elsewhere: false }

export type Placed =
  | { readonly granted: true; readonly placement: Placement }
  | { readonly granted: false; readonly shortage: Shortage }

export interface DeviceAccount {
  readonly id: string
  readonly sizeBytes?: number
  /** Charged to holders, or measured where that is more; absent where nothing is known of the device's memory. */
  readonly usedBytes?: number
  readonly holders: readonly DeviceHolder[]
}

export interface DeviceHolder {
  readonly module: string
  readonly replica: string
  /** The device is its alone. */
  readonly exclusive: boolean
  /** Of a shared device: what it asked for, also while it holds none of it. */
  readonly declaredBytes?: number
  readonly measuredBytes?: number
  /** What is charged to it now. */
  readonly heldBytes?: number
}

/**
 * The one record of which replica holds which devices, how much of their memory and of the machine's, and of who waits for
 * some. Synchronous: a question and its answer are one step, so two never get the same.
 */
export class Ledger {
  readonly #machine: () => Machine
  #holdings: readonly Holding[] = []
  /** Those that wait, in the order in which they came. */
  readonly #claims = new Map<string, Claim>()
  /** Measured use of whole devices, and since when a measurement counts: what went before is not in it. */
  readonly #used = new Map<string, number>()
  readonly #validFromMs = new Map<string, number>()

  /** `machine` is asked anew each time: an engine knows its devices when it is connected. */
  constructor(machine: () => Machine) {
    this.#machine = machine
  }

  /** The place that the replica may have now; else it waits in line until it is asked for again or withdrawn. */
  place(claim: Claim, standings: () => Standings): Placed {
    const before = this.#holdings.find(({ replica }) => replica === claim.replica)
    if (before && !claim.pinned) return { granted: true, placement: placementOf(before) }
    this.#claims.set(claim.replica, claim)
    const machine = this.#current()
    const { grants, shortages } = schedule(machine, this.#holdings, [...this.#claims.values()], standings)
    const placement = grants.get(claim.replica)
    if (placement) {
      this.#claims.delete(claim.replica)
      this.#holdings = withHolding(this.#holdings, holdingOf(machine, claim, placement, before))
      return { granted: true, placement }
    }
    const shortage = shortages.get(claim.replica)
    return { granted: false, shortage: shortage ?? nothingFree }
  }

  /** The memory of the shared devices that it has already, before it loads models again. */
  resume(replica: string, urgent: boolean, standings: () => Standings): Placed {
    const holding = this.#holdings.find((each) => each.replica === replica)
    if (!holding || holding.active) {
      return { granted: true, placement: holding ? placementOf(holding) : { devices: [] } }
    }
    const { module, devices, shareBytes } = holding
    const gpu = {
      count: devices.length,
      optional: false,
      ...(shareBytes === undefined ? {} : { memoryBytes: shareBytes }),
    }
    return this.place({ module, replica, memoryBytes: 0, gpu, pinned: devices, urgent }, standings)
  }

  withdraw(replica: string): void {
    this.#claims.delete(replica)
  }

  /** A workload that runs already: it has what it has, whether or not there is enough. */
  adopt(holding: Omit<Holding, 'measured'>): void {
    this.#holdings = withHolding(this.#holdings, { ...holding, measured: new Map() })
  }

  /** It has no models any more: it keeps its devices, and their memory is free. */
  rest(replica: string, nowMs: number): void {
    this.#change(replica, nowMs, (holding) =>
      holding.active && holding.shareBytes !== undefined ? { ...holding, active: false, measured: new Map() } : holding,
    )
  }

  /** It has models that nobody asked for here (a runner that loads by itself). */
  wake(replica: string): void {
    this.#holdings = this.#holdings.map((each) => (each.replica === replica ? { ...each, active: true } : each))
  }

  release(replica: string, nowMs: number): void {
    this.#claims.delete(replica)
    this.#change(replica, nowMs, () => undefined)
  }

  /** Measurements older than the last change on a device say nothing about it. */
  measure(replica: string, { atMs, devices }: Measurement): void {
    const holding = this.#holdings.find((each) => each.replica === replica)
    if (!holding) return
    const measured = new Map(holding.measured)
    for (const [id, { ownBytes, usedBytes }] of devices) {
      if (!holding.devices.includes(id) || atMs <= (this.#validFromMs.get(id) ?? Number.NEGATIVE_INFINITY)) continue
      // Many drivers tell a container only what the whole device has in use; whoever has it alone uses that.
      const isAlone = this.#holdings.every((each) => each === holding || !each.devices.includes(id))
      const own = ownBytes ?? (isAlone ? usedBytes : undefined)
      if (own !== undefined) measured.set(id, own)
      if (usedBytes !== undefined) this.#used.set(id, usedBytes)
    }
    this.#holdings = this.#holdings.map((each) => (each === holding ? { ...each, measured } : each))
  }

  /** Of those that wait: who could have a place now, and who has to go for the others. */
  look(standings: () => Standings): Schedule {
    return schedule(this.#current(), this.#holdings, [...this.#claims.values()], standings)
  }

  /** Somebody waits. */
  get isShort(): boolean {
    return this.#claims.size > 0
  }

  get waiting(): readonly Claim[] {
    return [...this.#claims.values()]
  }

  holding(replica: string): Holding | undefined {
    return this.#holdings.find((each) => each.replica === replica)
  }

  get holdings(): readonly Holding[] {
    return this.#holdings
  }

  get memory(): { readonly totalBytes: number; readonly heldBytes: number } {
    return { totalBytes: this.#machine().memoryBytes, heldBytes: memoryHeld(this.#holdings) }
  }

  devices(): readonly DeviceAccount[] {
    return this.#current().devices.map((device) => this.#account(device))
  }

  #account(device: Device): DeviceAccount {
    const holders = holdersOf(device, this.#holdings)
    const charged = holders.reduce((sum, holding) => sum + deviceUse(device, holding), 0)
    const used = Math.max(charged, this.#used.get(device.id) ?? 0)
    const known = device.sizeBytes !== undefined || used > 0
    return {
      id: device.id,
      ...(device.sizeBytes === undefined ? {} : { sizeBytes: device.sizeBytes }),
      ...(known ? { usedBytes: used } : {}),
      holders: holders.map((holding) => {
        const measured = holding.measured.get(device.id)
        const shared = holding.shareBytes !== undefined
        return {
          module: holding.module,
          replica: holding.replica,
          exclusive: !shared,
          ...(shared ? { declaredBytes: holding.shareBytes, heldBytes: chargeOn(device, holding) } : {}),
          ...(measured === undefined ? {} : { measuredBytes: measured }),
        }
      }),
    }
  }

  #current(): Machine {
    const machine = this.#machine()
    const devices = machine.devices.map((device) => {
      const used = this.#used.get(device.id)
      if (used === undefined) return device
      const charged = holdersOf(device, this.#holdings).reduce((sum, each) => sum + deviceUse(device, each), 0)
      return { ...device, outsideBytes: Math.max(0, used - charged) }
    })
    return { ...machine, devices }
  }

  #change(replica: string, nowMs: number, next: (holding: Holding) => Holding | undefined): void {
    const holding = this.#holdings.find((each) => each.replica === replica)
    const changed = holding && next(holding)
    if (!holding || changed === holding) return
    for (const id of holding.devices) {
      this.#used.delete(id)
      this.#validFromMs.set(id, nowMs)
    }
    this.#holdings = this.#holdings.flatMap((each) => (each === holding ? (changed ?? []) : [each]))
  }
}

const placementOf = ({ devices, shareBytes }: Holding): Placement => ({
  devices,
  ...(shareBytes === undefined ? {} : { shareBytes }),
})

/** What a holder uses for sure: of a device that is its alone only what was measured is known. */
function deviceUse(device: Device, holding: Holding): number {
  return holding.shareBytes === undefined ? (holding.measured.get(device.id) ?? 0) : chargeOn(device, holding)
}
