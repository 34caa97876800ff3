/** What a comparison is and what it gives. Each file of comparisons/ holds one. */

/** One line of the table. */
export interface Row {
  readonly what: string
  readonly unit: string
  readonly berth: number
  /** Absent where the target is absolute. */
  readonly peer?: { readonly name: string; readonly value: number }
  /** As the issue of the project words it; absent for rows that only inform. */
  readonly target?: Target
  /** Rounds, spread and whatever explains the figure; JSON only. */
  readonly detail?: Readonly<Record<string, unknown>>
}

/** `ratio`: Berth's value by the peer's; `value`: Berth's own; `difference`: Berth's minus the peer's. */
export interface Target {
  readonly of: 'ratio' | 'value' | 'difference'
  readonly at: 'least' | 'most'
  readonly bound: number
}

export interface Comparison {
  readonly name: string
  readonly about: string
  /** Throws `Missing` when its peer is not on this machine. */
  run(options: BenchOptions): Promise<readonly Row[]>
}

export interface BenchOptions {
  /** Length of one measurement. */
  readonly seconds: number
  /** Measurements of each subject, taken in turns. */
  readonly rounds: number
  /** Measure the long things at their full length. */
  readonly full: boolean
  readonly say: (text: string) => void
}

/** Something that a comparison needs is not here: it is skipped, not failed. */
export class Missing extends Error {
  override readonly name = 'Missing'
}

/** What the target is about, for this row; undefined without a peer to compare with. */
export function measured(row: Row, of: Target['of']): number | undefined {
  if (of === 'value') return row.berth
  if (row.peer === undefined) return undefined
  return of === 'ratio' ? row.berth / row.peer.value : row.berth - row.peer.value
}

export function isMet(row: Row): boolean | undefined {
  if (row.target === undefined) return undefined
  const value = measured(row, row.target.of)
  if (value === undefined) return undefined
  return row.target.at === 'least' ? value >= row.target.bound : value <= row.target.bound
}
