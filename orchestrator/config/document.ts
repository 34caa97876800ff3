import { LineCounter, parseDocument, YAMLParseError } from 'yaml'
import type { Json } from '../domain/json.ts'
import { createConverter, type DocumentOptions, own, type ParsedDocument, type Places, placeKey } from './convert.ts'
import { veil } from './interpolate.ts'
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

export type { DocumentOptions }

/** Never throws for what is in the text: see `problems`. */
export function readDocument(text: string, options: DocumentOptions): YamlDocument {
  const lines = new LineCounter()
  const problems: Problem[] = []
  const places = new Map<string, Places>()
  const parsed = parse(options.substitutions === undefined ? text : veil(text), lines)

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

function descend(value: Json | undefined, path: FieldPath): Json | undefined {
  let current: unknown = value
  for (const part of path) current = own(current, part)
  return current as Json | undefined
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
