import { isDeepStrictEqual } from 'node:util'
import { type BerthError, isErrorCode } from '../domain/errors.ts'
import type { ModuleManifest, ModuleSource } from '../domain/manifest.ts'

/**
 * The catalog: every folder and image that is a module, each as a manifest or as the error that it has. Reading order:
 * module-folder.ts (a folder), image.ts (an image), watcher.ts (all folders, kept up to date), models.ts (their models).
 */
export type CatalogEntry =
  | {
      readonly id: string
      readonly source: ModuleSource
      readonly manifest: ModuleManifest
      readonly error?: never
      /** What is wrong with a part of it, while the rest works: a container that is not used, say. */
      readonly problem?: BerthError
    }
  | {
      readonly id: string
      readonly source: ModuleSource
      readonly error: BerthError
      readonly manifest?: never
      readonly problem?: never
    }

/** Whether two lists say the same, errors compared by what they say. */
export function sameEntries(a: readonly CatalogEntry[], b: readonly CatalogEntry[]): boolean {
  return isDeepStrictEqual(a.map(comparable), b.map(comparable))
}

function comparable(entry: CatalogEntry): unknown {
  if (entry.error === undefined) return entry
  const { code, message, details } = entry.error
  return { id: entry.id, source: entry.source, code: isErrorCode(code) ? code : '', message, details }
}

/** Names that are never part of a module: hidden ones, and what tools leave behind. */
export function isIgnored(name: string): boolean {
  return name.startsWith('.') || name === '__pycache__' || name === 'node_modules'
}
