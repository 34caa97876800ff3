import { classOf, type Outcome } from './outcome.ts'

/** What a run has come to; every broken invariant is written down with what was seen. */
export type Invariant =
  | 'orphan'
  | 'double generation'
  | 'not ready again'
  | 'lost desired state'
  | 'lease not given back'
  | 'stuck'
  | 'unexplained failure'

export interface Violation {
  readonly invariant: Invariant
  readonly what: string
  /** Seconds since the run began. */
  readonly atSeconds: number
}

export interface FaultCount {
  times: number
  kills: number
  /** From the fault to the next good answer of a model that it hit. */
  readonly recoveriesMs: number[]
}

/** Beyond these something is so wrong that the rest follows from it. */
const mostSaid = 20

export class Report {
  readonly #began = performance.now()
  readonly violations: Violation[] = []
  readonly faults = new Map<string, FaultCount>()
  /** Class -> how often. */
  readonly outcomes = new Map<string, number>()
  readonly notes: string[] = []
  /** What was done when, for whoever looks for the reason of something broken. */
  readonly strikes: string[] = []
  readonly #say: (text: string) => void

  constructor(say: (text: string) => void) {
    this.#say = say
  }

  get kills(): number {
    return [...this.faults.values()].reduce((sum, { kills }) => sum + kills, 0)
  }

  get seconds(): number {
    return (performance.now() - this.#began) / 1000
  }

  struck(fault: string, what: string): void {
    this.strikes.push(`${new Date().toISOString()} ${fault}: ${what}`)
  }

  requests(...classes: readonly string[]): number {
    const counted = classes.length === 0 ? [...this.outcomes.keys()] : classes
    return counted.reduce((sum, name) => sum + (this.outcomes.get(name) ?? 0), 0)
  }

  count(outcome: Outcome): void {
    const name = classOf(outcome)
    this.outcomes.set(name, (this.outcomes.get(name) ?? 0) + 1)
  }

  fault(name: string): FaultCount {
    const known = this.faults.get(name) ?? { times: 0, kills: 0, recoveriesMs: [] }
    this.faults.set(name, known)
    return known
  }

  broken(invariant: Invariant, what: string): void {
    const violation = { invariant, what, atSeconds: Math.round(this.seconds * 10) / 10 }
    this.violations.push(violation)
    this.struck('BROKEN', `${invariant}: ${what}`)
    if (this.violations.length <= mostSaid) this.#say(`BROKEN ${invariant} at ${violation.atSeconds} s: ${what}`)
  }
}
