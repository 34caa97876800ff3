import {
  type Claim,
  candidatesFor,
  chargeOn,
  type Device,
  deviceFits,
  devicesNeeded,
  type Holding,
  holdersOf,
  type Machine,
  memoryFits,
  place,
} from './holdings.ts'

/** How a holder stands at the moment. One that nothing is known of is busy. */
export type Standing =
  /** A lease, an operation, somebody who waits: it stays; with `remains` its workload does so afterwards too. */
  | { readonly state: 'busy'; readonly remains?: boolean }
  /** Its workload is being stopped, or its models are being offloaded: what it holds will be free. */
  | { readonly state: 'leaving' | 'emptying' }
  /** What it takes to bring it back, milliseconds; absent: it can't be offloaded, or is not to be stopped. */
  | { readonly state: 'idle'; readonly offloadMs?: number; readonly stopMs?: number }

export type Standings = ReadonlyMap<string, Standing>

export interface Victim {
  readonly module: string
  readonly replica: string
  readonly what: 'offload' | 'stop'
  readonly costMs: number
  /** The module that it has to go for. */
  readonly neededBy: string
}

export interface Room {
  /** Who has to go, the cheapest memory first. */
  readonly victims: readonly Victim[]
  /** What is held when they are gone. */
  readonly holdings: readonly Holding[]
}

interface Option extends Omit<Victim, 'neededBy'> {
  /** Cost to bring back for each byte that it frees. */
  readonly ratio: number
}

/**
 * Whom to send away so that a claim fits: idle holders in order of what it costs to bring them back for each byte that they
 * free, no more than are needed. Models are offloaded where that is enough, else workloads are stopped too. Undefined where
 * nothing helps: then nobody goes.
 */
export function makeRoom(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
  standings: Standings,
): Room | undefined {
  const forDevices = roomOnDevices(machine, holdings, claim, standings)
  if (!forDevices) return undefined
  const all = [...forDevices, ...roomInMemory(machine, holdings, claim, standings, forDevices)]
  const victims = withoutNeedless(machine, holdings, claim, all)
  return victims && { victims: victims.map((option) => toVictim(option, claim)), holdings: without(holdings, victims) }
}

function toVictim({ module, replica, what, costMs }: Option, claim: Claim): Victim {
  return { module, replica, what, costMs, neededBy: claim.module }
}

export type Gone = Pick<Victim, 'replica' | 'what'>

/** What is held once these have gone. */
export function without(holdings: readonly Holding[], gone: readonly Gone[]): Holding[] {
  return holdings.flatMap((holding) => {
    const own = gone.filter(({ replica }) => replica === holding.replica)
    if (own.some(({ what }) => what === 'stop')) return []
    return own.length > 0 ? [{ ...holding, active: false, measured: new Map() }] : [holding]
  })
}

function roomOnDevices(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
  standings: Standings,
): readonly Option[] | undefined {
  const count = devicesNeeded(machine, claim)
  const { devices, shareBytes } = candidatesFor(machine, claim)
  const ways = devices.flatMap((device) => {
    const options = roomOn(device, holdings, claim, shareBytes, standings)
    return options ? [{ options, costMs: sum(options) }] : []
  })
  if (ways.length < count) return undefined
  const cheapest = ways.sort((a, b) => a.costMs - b.costMs).slice(0, count)
  return cheapest.flatMap(({ options }) => options)
}

/** Whom to send away from one device; undefined where that is not enough. */
function roomOn(
  device: Device,
  holdings: readonly Holding[],
  claim: Claim,
  shareBytes: number | undefined,
  standings: Standings,
): readonly Option[] | undefined {
  const others = holdersOf(device, holdings).filter(({ replica }) => replica !== claim.replica)
  // Whoever has it alone, and for a claim that wants it alone everybody, has to be stopped.
  const inTheWay = others.filter((holding) => shareBytes === undefined || holding.shareBytes === undefined)
  const stops = inTheWay.flatMap((holding) => optionsOf(device, holding, claim, standings, 'stop'))
  if (stops.length < inTheWay.length) return undefined
  const chosen = [...stops]
  const fits = () => deviceFits(device, without(holdings, chosen), claim, shareBytes)
  if (fits()) return chosen
  const rest = others.filter((holding) => !inTheWay.includes(holding))
  const offloads = rest.flatMap((holding) => optionsOf(device, holding, claim, standings, 'offload'))
  if (deviceFits(device, without(holdings, [...stops, ...offloads]), claim, shareBytes)) {
    for (const option of byRatio(offloads)) {
      chosen.push(option)
      if (fits()) return chosen
    }
  }
  const more = rest.flatMap((holding) => optionsOf(device, holding, claim, standings, 'stop'))
  for (const option of byRatio([...offloads, ...more])) {
    chosen.push(option)
    if (fits()) return chosen
  }
  return undefined
}

/** In main memory only a workload that ends leaves room. */
function roomInMemory(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
  standings: Standings,
  chosen: readonly Option[],
): readonly Option[] {
  const more: Option[] = []
  const fits = () => memoryFits(machine, without(holdings, [...chosen, ...more]), claim)
  if (fits()) return []
  const options = holdings
    .filter(({ memoryBytes, replica }) => memoryBytes > 0 && !stopped(chosen, replica))
    .flatMap((holding) => optionOf(holding, holding.memoryBytes, claim, standings, 'stop'))
  for (const option of byRatio(options)) {
    more.push(option)
    if (fits()) break
  }
  return more
}

const stopped = (chosen: readonly Option[], wanted: string): boolean =>
  chosen.some(({ replica, what }) => replica === wanted && what === 'stop')

function optionsOf(
  device: Device,
  holding: Holding,
  claim: Claim,
  standings: Standings,
  what: Victim['what'],
): readonly Option[] {
  const bytes = chargeOn(device, holding)
  if (what === 'offload' && (bytes === 0 || !holding.active || holding.shareBytes === undefined)) return []
  return optionOf(holding, Number.isFinite(bytes) ? bytes : 1, claim, standings, what)
}

/** One, or none: a module does not make room for itself. */
function optionOf(
  holding: Holding,
  bytes: number,
  claim: Claim,
  standings: Standings,
  what: Victim['what'],
): readonly Option[] {
  const { module, replica } = holding
  const standing = standings.get(replica)
  if (standing?.state !== 'idle' || module === claim.module) return []
  const costMs = what === 'stop' ? standing.stopMs : standing.offloadMs
  if (costMs === undefined) return []
  return [{ module, replica, what, costMs, ratio: costMs / Math.max(1, bytes) }]
}

/** The dearest are spared first, as long as the claim still fits; undefined where it does not fit at all. */
function withoutNeedless(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
  chosen: readonly Option[],
): readonly Option[] | undefined {
  const fits = (options: readonly Option[]) => place(machine, without(holdings, options), claim) !== undefined
  if (!fits(chosen)) return undefined
  const byReplica = new Map<string, Option>()
  for (const option of byRatio(chosen)) {
    const known = byReplica.get(option.replica)
    // One that is stopped need not be offloaded before.
    if (!known || (known.what === 'offload' && option.what === 'stop')) byReplica.set(option.replica, option)
  }
  let kept = byRatio([...byReplica.values()])
  for (const option of [...kept].reverse()) {
    const fewer = kept.filter((each) => each !== option)
    if (fits(fewer)) kept = fewer
  }
  return kept
}

function byRatio(options: readonly Option[]): Option[] {
  return [...options].sort((a, b) => a.ratio - b.ratio || (a.replica < b.replica ? -1 : 1))
}

const sum = (options: readonly Option[]): number => options.reduce((total, { costMs }) => total + costMs, 0)
