import { isDeepStrictEqual } from 'node:util'
import type { CatalogEntry } from '../catalog/catalog.ts'
import { type ImageContext, manifestFromContainer } from '../catalog/image.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { ModuleManifest } from '../domain/manifest.ts'
import type { ForeignWorkload, ObservedWorkload, Workload } from '../engines/engine.ts'

/** Containers that somebody else runs, read as modules: pure, from a listing to entries of the catalog and replicas. */

export interface ExternalModule {
  readonly entry: CatalogEntry
  /** Those that run, can be reached, and are what the entry's manifest says. */
  readonly replicas: readonly ExternalReplica[]
}

export interface ExternalReplica {
  readonly observed: ObservedWorkload
  readonly workload: Workload
}

interface Read {
  readonly found: ForeignWorkload
  readonly manifest?: ModuleManifest
  readonly error?: BerthError
}

/** One module an id. Of containers that contradict each other about it the newest that runs is right. */
export function readContainers(found: readonly ForeignWorkload[], context: ImageContext): readonly ExternalModule[] {
  const groups = new Map<string, Read[]>()
  for (const each of found) {
    const read = readContainer(each, context)
    const key = keyOf(read)
    groups.set(key, [...(groups.get(key) ?? []), read])
  }
  return [...groups.values()]
    .flatMap((group) => toModule(group.toSorted(byPrecedence)) ?? [])
    .toSorted((a, b) => (a.entry.id < b.entry.id ? -1 : 1))
}

function readContainer(found: ForeignWorkload, context: ImageContext): Read {
  try {
    return { found, manifest: manifestFromContainer(found, context) }
  } catch (error) {
    return { found, error: toBerthError(error) }
  }
}

/** The id that its label gives, else who runs it: the replicas of one service have one mistake in common. */
function keyOf({ found, manifest, error }: Read): string {
  if (manifest !== undefined) return manifest.id
  const named = error?.details.module
  return typeof named === 'string' && named !== found.container ? named : ` ${found.group ?? found.container}`
}

function byPrecedence({ found: a }: Read, { found: b }: Read): number {
  return Number(runs(b)) - Number(runs(a)) || b.createdMs - a.createdMs || (a.container < b.container ? -1 : 1)
}

const runs = ({ state }: ForeignWorkload): boolean => state === 'running' || state === 'paused'

/** `group`: one id's, in order of precedence. */
function toModule(group: readonly Read[]): ExternalModule | undefined {
  const winner = group.find(({ manifest }) => manifest !== undefined)
  if (winner?.manifest === undefined) {
    const [first] = group
    if (first?.error === undefined) return undefined
    const { error, found } = first
    const id = typeof error.details.module === 'string' ? error.details.module : found.container
    const source = { kind: 'external', reference: found.group ?? `container ${found.container}` } as const
    return { entry: { id, source, error }, replicas: [] }
  }
  const { manifest } = winner
  const used = group.filter((read) => read.manifest !== undefined && saysTheSame(read.manifest, manifest))
  const problem = problemOf(
    winner,
    used,
    group.filter((read) => runs(read.found) && !used.includes(read)),
  )
  const entry = { id: manifest.id, source: manifest.source, manifest }
  return {
    entry: problem === undefined ? entry : { ...entry, problem },
    replicas: used.flatMap(({ found }) => toReplica(manifest.id, found) ?? []),
  }
}

/** Who runs a container, and of which image it is made, is no part of what the module is. */
function saysTheSame(a: ModuleManifest, b: ModuleManifest): boolean {
  const said = ({ source: _source, base: _base, contentHash: _hash, ...rest }: ModuleManifest) => rest
  return isDeepStrictEqual(said(a), said(b))
}

function problemOf(winner: Read, used: readonly Read[], unused: readonly Read[]): BerthError | undefined {
  const [first] = unused
  if (first?.error !== undefined) return first.error
  if (first !== undefined && winner.manifest !== undefined) return contradiction(winner.manifest.id, winner, unused)
  return used.find(({ found }) => found.problem !== undefined)?.found.problem
}

function contradiction(id: string, winner: Read, others: readonly Read[]): BerthError {
  const names = others.map(({ found }) => found.container)
  const remedy = 'Give all of them the same label dev.berth.module, or another id to those that are another module.'
  return new BerthError(
    'DEPENDENCY_CONFLICT',
    `The containers ${winner.found.container} and ${names.join(', ')} are all the module ${id}, and their labels differ. The newest, ${winner.found.container}, is used, and those that differ from it are not. ${remedy}`,
    { module: id, containers: [winner.found.container, ...names], field: 'dev.berth.module', remedy },
  )
}

/** A replica is called like its container; a later container of that name is another generation. */
function toReplica(module: string, found: ForeignWorkload): ExternalReplica | undefined {
  const { id, container, endpoint, token, createdMs } = found
  if (endpoint === undefined) return undefined
  const generation = Math.round(createdMs / 1000)
  return {
    observed: {
      id,
      module,
      replica: container,
      generation,
      specHash: '',
      state: 'running',
      endpoint,
      container,
      gpus: [],
    },
    workload: { id, endpoint, container, gpus: [], token },
  }
}
