import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  LineCounter,
  type Node,
  parseDocument,
  type Scalar,
  visit,
  type YAMLMap,
  YAMLParseError,
} from 'yaml'
import { type Json, numberAsWritten, rawNumber } from '../domain/json.ts'
import { interpolate, type Substitutions } from './interpolate.ts'
import { type FieldPath, fieldName, type Problem } from './problems.ts'

/** A YAML 1.2 document read with the place of every field, so that whatever is wrong can be pointed at. */
export interface YamlDocument {
  readonly file: string
  /** Plain values: numbers are numbers. undefined when the document is empty or can't be read. */
  readonly value: unknown
  /** The same as it reaches Python: floats keep their point (domain/json.ts). */
  written(path: FieldPath): Json | undefined
  /** What is wrong with the YAML itself and with its variables. */
  readonly problems: readonly Problem[]
  /** False when the text is no YAML, so that its content says nothing. */
  readonly readable: boolean
  /** A problem at a field: at its key or, unless told, at its value; at the nearest parent that is written. */
  problem(path: FieldPath, message: string, at?: 'key' | 'value'): Problem
}

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

interface Places {
  readonly key?: number
  readonly value: number
}

interface Converted {
  readonly plain: unknown
  readonly written: Json
}

/** Never throws for what is in the text: see `problems`. */
export function readDocument(text: string, options: DocumentOptions): YamlDocument {
  const lines = new LineCounter()
  const problems: Problem[] = []
  const places = new Map<string, Places>()
  const parsed = parse(text, lines)

  const report = (offset: number, path: FieldPath, message: string): void => {
    problems.push(place(offset, path, message))
  }
  const place = (offset: number, path: FieldPath, message: string): Problem => {
    const { line, col } = lines.linePos(offset)
    return { file: options.file, line: Math.max(1, line), column: Math.max(1, col), field: fieldName(path), message }
  }

  const fatal = parsed.errors.filter((error) => error.code !== 'DUPLICATE_KEY')
  for (const error of [...parsed.errors, ...parsed.warnings].slice(0, 20)) {
    report(error.pos[0], [], syntaxMessage(error, text))
  }
  const converter = createConverter({ text, parsed, options, places, report })
  const root = fatal.length === 0 && parsed.contents !== null ? converter(parsed.contents, []) : undefined

  return {
    file: options.file,
    value: root?.plain ?? undefined,
    written: (path) => descend(root?.written, path),
    problems,
    readable: fatal.length === 0,
    problem(path, message, at = 'value') {
      for (let depth = path.length; depth >= 0; depth -= 1) {
        const known = places.get(placeKey(path.slice(0, depth)))
        if (known === undefined) continue
        return place(at === 'key' && depth === path.length ? (known.key ?? known.value) : known.value, path, message)
      }
      return { file: options.file, line: 1, column: 1, field: fieldName(path), message }
    },
  }
}

type ParsedDocument = ReturnType<typeof parseDocument>

interface ConverterParts {
  readonly text: string
  readonly parsed: ParsedDocument
  readonly options: DocumentOptions
  readonly places: Map<string, Places>
  readonly report: (offset: number, path: FieldPath, message: string) => void
}

function createConverter({ text, parsed, options, places, report }: ConverterParts) {
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
      const name = key.source ?? String(key.value)
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
    const { value } = node
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

/** The YAML parser recurses: text nested deeper than its stack ends as one plain error. */
function parse(text: string, lineCounter: LineCounter): ParsedDocument {
  const options = { lineCounter, prettyErrors: false, merge: true, logLevel: 'error' } as const
  let parsed: ParsedDocument
  try {
    parsed = parseDocument(text, options)
  } catch (error) {
    if (!(error instanceof RangeError)) throw error
    parsed = parseDocument('', options)
    parsed.errors.push(new YAMLParseError([0, 0], 'IMPOSSIBLE', error.message))
  }
  if (parsed.errors.some(({ message }) => message.startsWith('Maximum call stack'))) {
    parsed.errors.splice(0, Infinity, new YAMLParseError([0, 0], 'IMPOSSIBLE', ''))
  }
  return parsed
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

function own(value: unknown, key: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key)
    ? (value as Record<string, unknown>)[key]
    : undefined
}

function descend(value: Json | undefined, path: FieldPath): Json | undefined {
  let current: unknown = value
  for (const part of path) current = own(current, part)
  return current as Json | undefined
}

function placeKey(path: FieldPath): string {
  return path.join('\0')
}

function syntaxMessage(
  error: { readonly code: string; readonly message: string; readonly pos: readonly number[] },
  text: string,
): string {
  switch (error.code) {
    case 'DUPLICATE_KEY':
      return `the key "${text.slice(error.pos[0]).match(/^["']?[^\s:"']+/)?.[0] ?? ''}" stands here twice in one map: keep one of them`
    case 'MULTIPLE_DOCS':
      return 'only one document may stand in this file: remove the line `---` and what follows'
    case 'TAG_RESOLVE_FAILED':
      return `${error.message}: leave the tag out`
    case 'IMPOSSIBLE':
      return 'this is nested too deeply to be read'
    case 'TAB_AS_INDENT':
      return 'a tab stands where YAML wants spaces: indent with spaces'
    default:
      return `this is no valid YAML: ${error.message}`
  }
}
