import { isDeepStrictEqual } from 'node:util'
import type { GpuMemoryAnswer } from '../../../module-runner/protocol.ts'
import type { LifecycleEvent } from '../events.ts'
import { isLive, type ModuleState, type Replica } from '../state.ts'
import type { Standing } from './eviction.ts'
import type { Machine } from './holdings.ts'
import { type DeviceAccount, Ledger, type Placed } from './ledger.ts'
import { standingOf } from './standing.ts'

/** A writer, as far as it has to do with what others hold. */
export interface Party {
  readonly state: Readonly<ModuleState>
  post(event: LifecycleEvent): void
}

const nothingNeeded: Placed = { granted: true, placement: { devices: [] } }

export interface ResourcesOptions {
  readonly machine: () => Machine
  readonly now: () => number
}

/**
 * The devices and the memory of one machine, shared by all writers. A writer asks before it starts or loads, synchronously; when
 * there is no room it waits, is told when there may be some, and asks again. Holders are asked to go: whether they do, their own
 * writer decides.
 */
export class Resources {
  readonly #ledger: Ledger
  readonly #now: () => number
  readonly #parties = new Set<Party>()
  #looks = false

  constructor({ machine, now }: ResourcesOptions) {
    this.#ledger = new Ledger(machine)
    this.#now = now
  }

  join(party: Party): void {
    this.#parties.add(party)
  }

  leave(party: Party): void {
    this.#parties.delete(party)
    for (const { module, replica } of this.#ledger.waiting)
      if (module === party.state.id) this.#ledger.withdraw(replica)
  }

  /** Devices and memory for a start. */
  place(state: Readonly<ModuleState>, replica: string, urgent: boolean): Placed {
    const { gpu, resources } = state.definition.manifest
    const memoryBytes = resources.memoryBytes ?? 0
    if (gpu === undefined && memoryBytes === 0) return nothingNeeded
    const claim = { module: state.id, replica, memoryBytes, urgent, ...(gpu === undefined ? {} : { gpu }) }
    return this.#answered(this.#ledger.place(claim, () => this.#standings()))
  }

  /** Memory of its devices for a replica that is about to load models. */
  resume(replica: string, urgent: boolean): Placed {
    if (this.#ledger.holding(replica)?.active !== false) return nothingNeeded
    return this.#answered(this.#ledger.resume(replica, urgent, () => this.#standings()))
  }

  withdraw(replica: string): void {
    this.#ledger.withdraw(replica)
    this.lookAround()
  }

  /**
   * Gives back what replicas of the module no longer have. A replica without models keeps its share until it `rests`: what it was
   * started for may come in the next decision.
   */
  settle(state: Readonly<ModuleState>, rests: boolean): void {
    const held = this.#ledger.holdings.filter(({ module }) => module === state.id)
    for (const { replica: id } of held) {
      const replica = state.replicas.get(id)
      if (!replica || !holdsSomething(replica)) this.#ledger.release(id, this.#now())
      else if (rests && isEmpty(replica)) this.#ledger.rest(id, this.#now())
      else if (replica.models.size > 0) this.#ledger.wake(id)
    }
    if (!state.definition.external) for (const replica of state.replicas.values()) this.#recognise(state, replica)
    this.lookAround()
  }

  /** A workload that runs since before this orchestrator has what it has. */
  #recognise(state: Readonly<ModuleState>, replica: Replica): void {
    const { workload } = replica
    if (!workload || !holdsSomething(replica) || this.#ledger.holding(replica.id)) return
    const { gpu, resources } = state.definition.manifest
    if (workload.gpus.length === 0 && resources.memoryBytes === undefined) return
    this.#ledger.adopt({
      module: state.id,
      replica: replica.id,
      memoryBytes: resources.memoryBytes ?? 0,
      devices: workload.gpus,
      ...(gpu?.memoryBytes === undefined ? {} : { shareBytes: gpu.memoryBytes }),
      active: replica.models.size > 0,
    })
  }

  /** What a runner has measured; `devices` are those of its workload, in the order in which it counts them. */
  measure(replica: string, devices: readonly string[], { ageMs, devices: told }: GpuMemoryAnswer): void {
    const figures = devices.flatMap((id, index) => {
      const figure = told[index]
      if (!figure) return []
      const { own, used } = figure
      return [[id, { usedBytes: used, ...(own === undefined ? {} : { ownBytes: own }) }] as const]
    })
    this.#ledger.measure(replica, { atMs: this.#now() - ageMs, devices: new Map(figures) })
    this.lookAround()
  }

  devices(): readonly DeviceAccount[] {
    return this.#ledger.devices()
  }

  /** Somebody may have come to rest, or something has come free: those who wait are looked after, once this turn is over. */
  lookAround(): void {
    if (this.#looks || !this.#ledger.isShort) return
    this.#looks = true
    queueMicrotask(() => {
      this.#looks = false
      this.#look()
    })
  }

  #look(): void {
    const claims = this.#ledger.waiting
    const { grants, shortages, victims } = this.#ledger.look(() => this.#standings())
    const parties = new Map([...this.#parties].map((party) => [party.state.id, party]))
    for (const { module, replica } of claims) {
      const party = parties.get(module)
      const shortage = shortages.get(replica)
      if (grants.has(replica)) party?.post({ type: 'room', replica })
      else if (shortage && !isDeepStrictEqual(shortage, party?.state.shortages.get(replica)?.shortage))
        party?.post({ type: 'room', replica, shortage })
    }
    for (const { module, replica, what, neededBy } of victims) {
      const generation = parties.get(module)?.state.replicas.get(replica)?.generation
      if (generation === undefined) continue
      parties.get(module)?.post({ type: 'yield', replica, generation, what, neededBy })
    }
  }

  #answered(placed: Placed): Placed {
    if (!placed.granted) this.lookAround()
    return placed
  }

  #standings(): ReadonlyMap<string, Standing> {
    const standings = new Map<string, Standing>()
    for (const { state } of this.#parties) {
      for (const replica of state.replicas.values()) standings.set(replica.id, standingOf(state, replica))
    }
    return standings
  }
}

/** For certain: after a load that went wrong its runner may have loaded the models all the same, which its health will tell. */
function isEmpty({ state, operation, suspicion }: Replica): boolean {
  return state === 'idle' && !operation && suspicion === 'none'
}

function holdsSomething(replica: Replica): boolean {
  return isLive(replica) || replica.state === 'stopping'
}
