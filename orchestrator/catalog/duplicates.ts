import { basename } from 'node:path'
import { BerthError } from '../domain/errors.ts'
import { sourcePlace } from '../domain/manifest.ts'
import type { CatalogEntry } from './catalog.ts'

/**
 * One entry per id. Of folders that claim the same id, the one whose name it is keeps it; else the one that had it before
 * (`holders`: id -> folder), else the first by name. The others are listed under their own names, with an error that
 * names both. Sorted by id.
 */
export function settleDuplicates(
  entries: readonly CatalogEntry[],
  holders: ReadonlyMap<string, string>,
): readonly CatalogEntry[] {
  const claims = new Map<string, CatalogEntry[]>()
  for (const entry of entries) claims.set(entry.id, [...(claims.get(entry.id) ?? []), entry])
  const settled = new Map<string, CatalogEntry>()
  const losers: { readonly loser: CatalogEntry; readonly winner: CatalogEntry }[] = []
  for (const [id, claimants] of claims) {
    const winner = [...claimants].sort((a, b) => rank(a, id, holders) - rank(b, id, holders) || byPlace(a, b))[0]
    if (winner === undefined) continue
    settled.set(id, winner)
    losers.push(...claimants.filter((entry) => entry !== winner).map((loser) => ({ loser, winner })))
  }
  for (const { loser, winner } of losers) {
    const id = freeName(loser, settled)
    settled.set(id, { id, source: loser.source, error: duplicate(loser, winner) })
  }
  return [...settled.values()].sort((a, b) => (a.id < b.id ? -1 : 1))
}

function rank(entry: CatalogEntry, id: string, holders: ReadonlyMap<string, string>): number {
  const named = basename(place(entry)) === id
  const held = holders.get(id) === place(entry)
  if (entry.error !== undefined) return held || named ? 3 : 4
  return named ? (held ? 0 : 1) : held ? 1.5 : 2
}

/** Its folder's name, or where that is another module's id, its whole path. */
function freeName(entry: CatalogEntry, taken: ReadonlyMap<string, CatalogEntry>): string {
  const name = basename(place(entry))
  return taken.has(name) ? place(entry) : name
}

function duplicate(loser: CatalogEntry, winner: CatalogEntry): BerthError {
  const remedy = `Give one of them another id: \`id:\` in its module.yaml, or another name of its folder.`
  return new BerthError(
    'MANIFEST_INVALID',
    `The folders ${place(winner)} and ${place(loser)} are both the module ${loser.id}; the first one is used. ${remedy}`,
    { module: basename(place(loser)), file: place(loser), field: 'id', folders: [place(winner), place(loser)], remedy },
  )
}

function byPlace(a: CatalogEntry, b: CatalogEntry): number {
  return place(a) < place(b) ? -1 : 1
}

function place(entry: CatalogEntry): string {
  return sourcePlace(entry.source)
}
