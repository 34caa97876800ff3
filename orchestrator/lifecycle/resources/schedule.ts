import { type Gone, makeRoom, type Standing, type Standings, type Victim, without } from './eviction.ts'
import {
  type Claim,
  candidatesFor,
  devicesNeeded,
  freeOn,
  type Holding,
  holdersOf,
  holdingOf,
  type Machine,
  memoryFits,
  type Placement,
  place,
  withHolding,
} from './holdings.ts'

/** Why a claim has to wait, in the terms of whoever waits for it. */
export interface Shortage {
  readonly of: 'gpu' | 'memory'
  /** Devices that it may be given; empty for main memory. */
  readonly devices: readonly string[]
  /** Modules that hold them, or were promised them before. */
  readonly holders: readonly string[]
  /** Others are on their way out for it. */
  readonly roomIsMade: boolean
  /** It has its devices already, and a new start would find room on others. */
  readonly elsewhere: boolean
}

export interface Schedule {
  /** By replica: those that may have what they want now. */
  readonly grants: ReadonlyMap<string, Placement>
  readonly shortages: ReadonlyMap<string, Shortage>
  /** Who has to go for those that wait. */
  readonly victims: readonly Victim[]
}

/**
 * Who gets what: the urgent ones first, then from those who have waited longest on. A claim gets what is free; else idle
 * holders go for it; else it waits, and what it is nearest to is kept for it if it is urgent, so that nobody overtakes it
 * there. What comes of a claim does not depend on those behind it. Pure.
 */
export function schedule(
  machine: Machine,
  holdings: readonly Holding[],
  claims: readonly Claim[],
  askStandings: () => Standings,
): Schedule {
  const grants = new Map<string, Placement>()
  const shortages = new Map<string, Shortage>()
  const victims: Victim[] = []
  // With what is promised to the claims before; `later` without those who leave or are sent away.
  let now = holdings
  let later = holdings
  let standings: Map<string, Standing> | undefined

  const give = (claim: Claim, placement: Placement) => {
    const before = now.find(({ replica }) => replica === claim.replica)
    const holding = holdingOf(machine, claim, placement, before)
    now = withHolding(now, holding)
    later = withHolding(later, holding)
  }

  for (const asked of inOrder(claims)) {
    let claim = asked
    let placement = place(machine, now, claim)
    if (!placement && claim.gpu?.optional && !claim.pinned) {
      claim = withoutGpu(claim)
      placement = place(machine, now, claim)
    }
    if (placement) {
      grants.set(claim.replica, placement)
      give(claim, placement)
      standings?.delete(claim.replica)
      continue
    }
    // How others stand counts only for those who do not fit anyway.
    if (!standings) {
      standings = new Map(askStandings())
      for (const replica of grants.keys()) standings.delete(replica)
      later = without(later, leaving(standings))
    }
    const shortage = shortageOf(machine, now, claim)
    const soon = place(machine, later, claim)
    const room = soon ? undefined : makeRoom(machine, later, claim, standings)
    if (room) {
      victims.push(...room.victims)
      later = room.holdings
    }
    // Nobody behind it sends it away again.
    standings.delete(claim.replica)
    const promised = soon ?? place(machine, later, claim)
    shortages.set(claim.replica, {
      ...shortage,
      roomIsMade: promised !== undefined,
      elsewhere: promised === undefined && fitsElsewhere(machine, now, claim),
    })
    if (promised) give(claim, promised)
    else if (claim.urgent && couldBeServed(machine, holdings, claim, standings))
      give(claim, { devices: nearest(machine, later, claim, standings) })
  }
  return { grants, shortages, victims }
}

function leaving(standings: Standings): readonly Gone[] {
  return [...standings].flatMap(([replica, { state }]): Gone[] => {
    if (state === 'leaving') return [{ replica, what: 'stop' }]
    return state === 'emptying' ? [{ replica, what: 'offload' }] : []
  })
}

/** Those that wait, as they are served. */
export function inOrder(claims: readonly Claim[]): readonly Claim[] {
  return [...claims.filter(({ urgent }) => urgent), ...claims.filter(({ urgent }) => !urgent)]
}

/** Were all to go that ever may. A module does not make room for itself, and one that asks for more than there is waits in vain. */
function couldBeServed(machine: Machine, holdings: readonly Holding[], claim: Claim, standings: Standings): boolean {
  const left = holdings.flatMap((holding): Holding[] => {
    if (holding.module === claim.module) return [holding]
    const remains = holding.shareBytes === undefined ? holding : { ...holding, active: false, measured: new Map() }
    return mayBeStopped(standings.get(holding.replica)) ? [] : [remains]
  })
  return place(machine, left, claim) !== undefined
}

function mayBeStopped(standing: Standing | undefined): boolean {
  if (standing?.state === 'idle') return standing.stopMs !== undefined
  return standing?.state !== 'busy' || standing.remains !== true
}

function withoutGpu({ gpu: _gpu, ...claim }: Claim): Claim {
  return claim
}

function shortageOf(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
): Pick<Shortage, 'of' | 'devices' | 'holders'> {
  const others = holdings.filter(({ replica }) => replica !== claim.replica)
  if (!memoryFits(machine, holdings, claim)) {
    return { of: 'memory', devices: [], holders: modulesOf(others.filter(({ memoryBytes }) => memoryBytes > 0)) }
  }
  const { devices } = candidatesFor(machine, claim)
  const holders = others.filter((holding) => devices.some(({ id }) => holding.devices.includes(id)))
  return { of: 'gpu', devices: devices.map(({ id }) => id), holders: modulesOf(holders) }
}

function fitsElsewhere(machine: Machine, holdings: readonly Holding[], claim: Claim): boolean {
  const { pinned, ...anew } = claim
  if (!pinned) return false
  const others = holdings.filter(({ replica }) => replica !== claim.replica)
  return place(machine, others, anew) !== undefined
}

const modulesOf = (holdings: readonly Holding[]): readonly string[] =>
  [...new Set(holdings.map(({ module }) => module))].sort()

/** The devices that would have the most room without everybody who could go; for main memory alone: none. */
function nearest(
  machine: Machine,
  holdings: readonly Holding[],
  claim: Claim,
  standings: Standings,
): readonly string[] {
  if (!memoryFits(machine, holdings, claim)) return []
  const idle = holdings.filter(({ replica }) => standings.get(replica)?.state === 'idle')
  const rest = without(
    holdings,
    idle.map(({ replica }) => ({ replica, what: 'stop' })),
  )
  const room = candidatesFor(machine, claim).devices.map((device) => {
    const stay = holdersOf(device, rest)
    const taken = stay.some(({ shareBytes }) => shareBytes === undefined)
    return { id: device.id, holders: stay.length, free: taken ? -1 : freeOn(device, rest, undefined) }
  })
  return room
    .sort((a, b) => b.free - a.free || a.holders - b.holders)
    .slice(0, devicesNeeded(machine, claim))
    .map(({ id }) => id)
}
