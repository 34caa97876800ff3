import type { ModuleState, Replica } from './state.ts'

/** Up to so many replicas all are looked at; beyond, two drawn by chance, which is nearly as good at any number. */
const lookedAt = 8

export interface Choice {
  readonly hasRoom: (replica: Replica) => boolean
  /** Inferences under way on a replica, all its models together. */
  readonly outstanding: (replica: Replica) => number
  /** Of several that have as little, each in turn. */
  readonly turn: number
  /** In [0, 1). */
  readonly random: number
}

/** The replica for one more inference: with the least outstanding among those that have room for it. */
export function leastOutstanding(state: ModuleState, choice: Choice): Replica | undefined {
  if (state.replicas.size === 1) {
    for (const replica of state.replicas.values()) return choice.hasRoom(replica) ? replica : undefined
  }
  const fit = [...state.replicas.values()].filter(choice.hasRoom)
  if (fit.length <= 1) return fit[0]
  return leastOf(fit.length <= lookedAt ? fit : twoOf(fit, choice.random), choice)
}

function leastOf(fit: readonly Replica[], { outstanding, turn }: Choice): Replica | undefined {
  let best: Replica | undefined
  for (let offset = 0; offset < fit.length; offset += 1) {
    const replica = fit[(turn + offset) % fit.length]
    if (replica && (best === undefined || outstanding(replica) < outstanding(best))) best = replica
  }
  return best
}

/** Two different ones, both from one random number. */
function twoOf(fit: readonly Replica[], random: number): readonly Replica[] {
  const scaled = random * fit.length
  const first = Math.floor(scaled)
  const second = (first + 1 + Math.floor((scaled - first) * (fit.length - 1))) % fit.length
  return [fit[first], fit[second]].filter((replica) => replica !== undefined)
}
