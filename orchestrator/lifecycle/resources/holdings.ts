import type { GpuRequest } from '../../domain/manifest.ts'

/** What the replicas on this machine hold of its main memory and of its GPUs, and what is left: sums, no decisions. */

export interface Machine {
  /** Devices that one replica may be given together. */
  readonly devices: readonly Device[]
  /** Main memory for modules, bytes; Infinity: it is not kept account of. */
  readonly memoryBytes: number
}

export interface Device {
  readonly id: string
  /** Absent: not known, and then the device has one holder at a time. */
  readonly sizeBytes?: number
  /** In use, and by none of the holders, as last measured. */
  readonly outsideBytes?: number
}

export interface Holding {
  readonly module: string
  /** Unique in the instance, and never two live generations of one. */
  readonly replica: string
  /** Main memory, for as long as the workload lives. */
  readonly memoryBytes: number
  /** Given at the start, for as long as the workload lives. */
  readonly devices: readonly string[]
  /** Of each device's memory; absent: the devices are its alone. */
  readonly shareBytes?: number
  /** Models are loaded or may be loading: its share is taken. */
  readonly active: boolean
  /** Bytes by device, as its runner measured them. */
  readonly measured: ReadonlyMap<string, number>
}

/** What a replica needs before it may start, or, with `pinned`, before it may load models again. */
export interface Claim {
  readonly module: string
  readonly replica: string
  readonly memoryBytes: number
  readonly gpu?: GpuRequest
  /** The devices that its workload has. */
  readonly pinned?: readonly string[]
  /** Somebody waits whom nothing else serves: comes before what would only be good to have. */
  readonly urgent: boolean
}

export interface Placement {
  /** Empty: it runs on the CPU. */
  readonly devices: readonly string[]
  /** Of each; absent: they are its alone. */
  readonly shareBytes?: number
}

/** What a holder takes of a device, bytes: what was measured where that is more than what it asked for. */
export function chargeOn(device: Device, holding: Holding): number {
  if (!holding.devices.includes(device.id)) return 0
  if (holding.shareBytes === undefined) return device.sizeBytes ?? Number.POSITIVE_INFINITY
  return Math.max(holding.active ? holding.shareBytes : 0, holding.measured.get(device.id) ?? 0)
}

export const holdersOf = (device: Device, holdings: readonly Holding[]): readonly Holding[] =>
  holdings.filter(({ devices }) => devices.includes(device.id))

/** Bytes that may still be shared out; `own` are those of the replica that asks, which it takes anew. */
export function freeOn(device: Device, holdings: readonly Holding[], own: Holding | undefined): number {
  if (device.sizeBytes === undefined) return 0
  const others = holdersOf(device, holdings).filter((holding) => holding !== own)
  const charged = others.reduce((sum, holding) => sum + chargeOn(device, holding), 0)
  return device.sizeBytes - charged - (device.outsideBytes ?? 0)
}

export const memoryHeld = (holdings: readonly Holding[]): number =>
  holdings.reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)

/** A limit above what the machine has takes all of it. */
export const memoryNeed = (machine: Machine, claim: Claim): number =>
  claim.pinned ? 0 : Math.min(claim.memoryBytes, machine.memoryBytes)

export function memoryFits(machine: Machine, holdings: readonly Holding[], claim: Claim): boolean {
  return memoryNeed(machine, claim) <= machine.memoryBytes - memoryHeld(holdings) || memoryNeed(machine, claim) === 0
}

/** How many devices a claim needs: none on a machine without any, where everything runs on the CPU. */
export const devicesNeeded = (machine: Machine, claim: Claim): number =>
  machine.devices.length === 0 ? 0 : (claim.pinned?.length ?? claim.gpu?.count ?? 0)

/** What a claim may be given: a share of devices whose size is known, where there are enough of them; else whole devices. */
export interface Candidates {
  readonly devices: readonly Device[]
  /** Of each; absent: they would be its alone. */
  readonly shareBytes?: number
}

export function candidatesFor(machine: Machine, claim: Claim): Candidates {
  const { pinned, gpu } = claim
  const devices = pinned ? machine.devices.filter(({ id }) => pinned.includes(id)) : machine.devices
  if (gpu?.memoryBytes === undefined) return { devices }
  const sized = devices.filter(({ sizeBytes }) => sizeBytes !== undefined)
  return sized.length < devicesNeeded(machine, claim) ? { devices } : { devices: sized, shareBytes: gpu.memoryBytes }
}

/** Nobody else needs to go from the device. */
export function deviceFits(
  device: Device,
  holdings: readonly Holding[],
  claim: Claim,
  shareBytes: number | undefined,
): boolean {
  const own = ownHolding(holdings, claim)
  const others = holdersOf(device, holdings).filter((holding) => holding !== own)
  if (shareBytes === undefined) return others.length === 0
  if (others.some((holding) => holding.shareBytes === undefined)) return false
  return freeOn(device, holdings, own) >= shareBytes
}

const ownHolding = (holdings: readonly Holding[], claim: Claim): Holding | undefined =>
  holdings.find(({ replica }) => replica === claim.replica)

/** Where a claim fits without anybody's having to go; undefined where it does not. The same question has one answer. */
export function place(machine: Machine, holdings: readonly Holding[], claim: Claim): Placement | undefined {
  if (!memoryFits(machine, holdings, claim)) return undefined
  const count = devicesNeeded(machine, claim)
  if (count === 0) return { devices: [] }
  const { devices, shareBytes } = candidatesFor(machine, claim)
  const fitting = devices.filter((device) => deviceFits(device, holdings, claim, shareBytes))
  if (fitting.length < count) return undefined
  const ordered = shareBytes === undefined ? fitting : byRoom(fitting, holdings, claim, shareBytes)
  const chosen = new Set(ordered.slice(0, count))
  const ids = devices.filter((device) => chosen.has(device)).map(({ id }) => id)
  return { devices: ids, ...(shareBytes === undefined ? {} : { shareBytes }) }
}

/**
 * Shares go where they leave the least room with everything that is pinned there, loaded or not, so that whole devices stay
 * free; where nothing leaves room for all of that, to the device with the most free memory now.
 */
function byRoom(
  fitting: readonly Device[],
  holdings: readonly Holding[],
  claim: Claim,
  shareBytes: number,
): readonly Device[] {
  const own = ownHolding(holdings, claim)
  const everybody = holdings.map((holding) => ({ ...holding, active: true }))
  const rank = (device: Device): number => {
    const together = freeOn(device, everybody, own) - shareBytes
    return together >= 0 ? together : Number.MAX_SAFE_INTEGER - freeOn(device, holdings, own)
  }
  const ranked = fitting.map((device) => [rank(device), device] as const)
  return ranked.sort(([a], [b]) => a - b).map(([, device]) => device)
}

/** What is held once a claim has its place. */
export function holdingOf(machine: Machine, claim: Claim, placement: Placement, before: Holding | undefined): Holding {
  return {
    module: claim.module,
    replica: claim.replica,
    memoryBytes: claim.pinned ? (before?.memoryBytes ?? 0) : memoryNeed(machine, claim),
    devices: placement.devices,
    ...(placement.shareBytes === undefined ? {} : { shareBytes: placement.shareBytes }),
    active: true,
    measured: claim.pinned ? (before?.measured ?? new Map()) : new Map(),
  }
}

export function withHolding(holdings: readonly Holding[], holding: Holding): readonly Holding[] {
  return [...holdings.filter(({ replica }) => replica !== holding.replica), holding]
}
