import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  type Node,
  type parseDocument,
  type Scalar,
  visit,
  type YAMLMap,
} from 'yaml'
import { type Json, numberAsWritten, rawNumber } from '../domain/json.ts'
import { interpolate, type Substitutions, unveil } from './interpolate.ts'
import type { FieldPath } from './problems.ts'

export interface DocumentOptions {
  /** Name of the file in problems. */
  readonly file: string
  /** Absent: `${...}` is plain text. */
  readonly substitutions?: Substitutions
  /** Fields whose scalars are taken as the text that was written: `python: 3.10` is no number. */
  readonly textAt?: (path: FieldPath) => boolean
}

/** Nodes that a document may unfold to: aliases that multiply each other end here. */
const nodeLimit = 100_000
const depthLimit = 64

/** Offsets in the text. */
export interface Places {
  readonly key?: number
  readonly value: number
}

/** One value twice: as JavaScript sees it, and as it was written. */
export interface Converted {
  readonly plain: unknown
  readonly written: Json
}

export type ParsedDocument = ReturnType<typeof parseDocument>

interface ConverterParts {
  readonly text: string
  readonly parsed: ParsedDocument
  readonly options: DocumentOptions
  readonly places: Map<string, Places>
  readonly report: (offset: number, path: FieldPath, message: string) => void
}

/** Makes the function that turns a node of YAML into values, and notes the place of every field on its way. */
export function createConverter({ text, parsed, options, places, report }: ConverterParts) {
  let nodes = 0
  let overflow = false
  /** Collections being unfolded: an alias to one of them would never end. */
  const open = new Set<Node>()
  const targets = aliasTargets(parsed)

  const convert = (node: Node | null, path: FieldPath, keyAt?: number): Converted => {
    const at = node?.range?.[0] ?? keyAt ?? 0
    places.set(placeKey(path), keyAt === undefined ? { value: at } : { key: keyAt, value: at })
    nodes += 1
    if (nodes > nodeLimit || path.length > depthLimit) {
      if (!overflow)
        report(
          at,
          path,
          `this document unfolds to more than Berth reads (${nodeLimit} values, ${depthLimit} levels): use fewer aliases`,
        )
      overflow = true
      return nothing
    }
    if (node === null) return nothing
    if (isAlias(node)) return convertAlias(node, path, keyAt, at)
    if (isScalar(node)) return convertScalar(node, path, at)
    if (open.has(node)) {
      report(at, path, 'this alias stands inside its own anchor, so the document has no end')
      return nothing
    }
    open.add(node)
    const converted = isSeq(node) ? convertItems(node.items, path) : convertMap(node as YAMLMap, path)
    open.delete(node)
    return converted
  }

  const convertAlias = (node: Node, path: FieldPath, keyAt: number | undefined, at: number): Converted => {
    const target = targets.get(node)
    if (target === undefined) {
      report(at, path, 'this alias names an anchor that is not there')
      return nothing
    }
    const converted = convert(target, path, keyAt)
    places.set(placeKey(path), keyAt === undefined ? { value: at } : { key: keyAt, value: at })
    return converted
  }

  const convertItems = (items: readonly unknown[], path: FieldPath): Converted => {
    const plain: unknown[] = []
    const written: Json[] = []
    items.forEach((item, index) => {
      const converted = convert(isPair(item) ? null : (item as Node | null), [...path, String(index)])
      plain.push(converted.plain)
      written.push(converted.written)
    })
    return { plain, written }
  }

  const convertMap = (map: YAMLMap, path: FieldPath): Converted => {
    const plain: Record<string, unknown> = {}
    const written: Record<string, Json> = {}
    const put = (key: string, converted: Converted): void => {
      define(plain, key, converted.plain)
      define(written, key, converted.written)
    }
    const merges = map.items.filter(({ key }) => isScalar(key) && isMergeKey(key))
    for (const { value } of merges) {
      for (const [name, merged] of mergedEntries(value as Node | null, path)) put(name, merged)
    }
    for (const pair of map.items) {
      const key = pair.key as Node | null
      const keyAt = key?.range?.[0] ?? map.range?.[0] ?? 0
      if (merges.includes(pair)) continue
      if (!isScalar(key)) {
        report(keyAt, path, 'a key must be a plain name')
        continue
      }
      const name = unveil(key.source ?? String(key.value))
      put(name, convert(pair.value as Node | null, [...path, name], keyAt))
    }
    return { plain, written }
  }

  /** `<<: *defaults` and `<<: [*a, *b]`: the first that has a key wins, and the map's own keys win over all. */
  const mergedEntries = (node: Node | null, path: FieldPath): Map<string, Converted> => {
    const source = targets.get(node as Node) ?? node
    const here = places.get(placeKey(path))
    const entries = new Map<string, Converted>()
    for (const item of isSeq(source) ? source.items : [source]) {
      const map = targets.get(item as Node) ?? item
      if (!isMap(map)) {
        report(node?.range?.[0] ?? 0, path, '`<<` takes a map or a list of maps')
        continue
      }
      const { plain, written } = convert(map, path)
      for (const key of Object.keys(plain as object)) {
        if (!entries.has(key)) entries.set(key, { plain: own(plain, key), written: own(written, key) as Json })
      }
    }
    if (here !== undefined) places.set(placeKey(path), here)
    return entries
  }

  const convertScalar = (node: Scalar, path: FieldPath, at: number): Converted => {
    const value = typeof node.value === 'string' ? unveil(node.value) : node.value
    if (typeof value === 'string') return convertText(node, value, path, at)
    const asText = options.textAt?.(path) === true && node.source !== undefined && value !== null
    if (asText) return same(node.source ?? '')
    if (typeof value === 'number') return convertNumber(value, node.source ?? '', path, at)
    if (typeof value === 'bigint') return { plain: Number(value), written: rawNumber(String(value)) }
    if (value === null || typeof value === 'boolean') return same(value)
    report(at, path, 'only text, numbers, true, false and null can stand here')
    return nothing
  }

  const convertNumber = (value: number, source: string, path: FieldPath, at: number): Converted => {
    if (!Number.isFinite(value)) {
      report(at, path, `${source} can't be passed on to a module: write a number`)
      return nothing
    }
    return { plain: value, written: numberAsWritten(value, jsonNumber(source, value)) }
  }

  const convertText = (node: Scalar, value: string, path: FieldPath, at: number): Converted => {
    if (options.substitutions === undefined) return same(value)
    const { text: replaced, whole, faults } = interpolate(value, options.substitutions)
    for (const fault of faults) {
      const offset = text.slice(at, node.range?.[1]).indexOf(fault.token)
      report(at + Math.max(0, offset), path, fault.message)
    }
    if (faults.length > 0) return nothing
    const retyped = whole && node.type === 'PLAIN' && options.textAt?.(path) !== true ? retype(replaced) : undefined
    return retyped ?? same(replaced)
  }

  return convert
}

/** What every alias stands for: the last anchor of that name before it. One pass, whatever the number of aliases. */
function aliasTargets(parsed: ParsedDocument): Map<Node, Node> {
  const anchors = new Map<string, Node>()
  const targets = new Map<Node, Node>()
  if (parsed.errors.some((error) => error.code !== 'DUPLICATE_KEY')) return targets
  visit(parsed, {
    Alias(_key, alias) {
      const target = anchors.get(alias.source)
      if (target !== undefined) targets.set(alias, target)
    },
    Value(_key, node) {
      if (node.anchor !== undefined) anchors.set(node.anchor, node)
    },
  })
  return targets
}

const nothing: Converted = { plain: null, written: null }

function same(value: string | boolean | null): Converted {
  return { plain: value, written: value }
}

/**
 * An unquoted `${VAR}` that is all of a value is read as if its text stood there: true, false or a number in JSON's
 * form. Quoted, and for any other text (`007`, a number too long to hold), it is text.
 */
function retype(text: string): Converted | undefined {
  if (text === 'true' || text === 'false') return same(text === 'true')
  if (!/^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(text)) return undefined
  const value = Number(text)
  const exact = /[.eE]/.test(text) ? Number.isFinite(value) : Number.isSafeInteger(value)
  return exact ? { plain: value, written: numberAsWritten(value, text) } : undefined
}

/** A YAML number in JSON's form with its kind kept: `1.` and `+1.0` become `1.0`, `0x10` becomes `16`. */
function jsonNumber(source: string, value: number): string {
  if (/^[-+]?0[xo]/i.test(source)) return Number.isSafeInteger(value) ? String(value) : BigInt(source).toString()
  if (/^[-+]?\d+$/.test(source)) return source.replace(/^\+/, '').replace(/^(-?)0+(?=\d)/, '$1')
  const text = Object.is(value, -0) ? '-0' : String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}

/** A `<<` that is written plain; quoted, it is a key like any other. */
function isMergeKey(key: Scalar): boolean {
  return (key.source ?? key.value) === '<<' && key.type !== 'QUOTE_DOUBLE' && key.type !== 'QUOTE_SINGLE'
}

/** An own property whatever its name, `__proto__` included. */
function define(target: object, key: string, value: unknown): void {
  Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true })
}

export function own(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined
}

/** A path as the key of a map. */
export function placeKey(path: FieldPath): string {
  return path.join('\0')
}
