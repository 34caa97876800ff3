import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The project's documents taken apart, for the test that runs them: see the convention in test/e2e/docs.test.ts. */
export interface Document {
  /** Relative to the repository: `docs/api.md`. */
  readonly name: string
  readonly text: string
  readonly blocks: readonly Block[]
}

/** A fenced block. Its info string is cut into words: language, and what follows it. */
export interface Block {
  /** `docs/api.md:17`, where the fence stands. */
  readonly at: string
  readonly language: string
  readonly words: readonly string[]
  readonly text: string
  /** What the document promises that a `sh` block prints: the `text output` or `json output` block that follows it. */
  readonly output?: Block
}

export const repository = fileURLToPath(new URL('../..', import.meta.url))

export function readDocuments(): readonly Document[] {
  const names = readdirSync(join(repository, 'docs')).filter((name) => name.endsWith('.md'))
  return ['README.md', ...names.sort().map((name) => `docs/${name}`)].map(readDocument)
}

function readDocument(name: string): Document {
  const text = readFileSync(join(repository, name), 'utf8')
  return { name, text, blocks: blocksOf(name, text) }
}

/** Throws for a fence that is not closed. */
export function blocksOf(name: string, text: string): readonly Block[] {
  const blocks: Block[] = []
  let open: { readonly info: string; readonly line: number; readonly lines: string[] } | undefined
  for (const [index, line] of text.split('\n').entries()) {
    const fence = /^```(.*)$/.exec(line)
    if (fence === null) open?.lines.push(line)
    else if (open === undefined) open = { info: fence[1] ?? '', line: index + 1, lines: [] }
    else {
      const [language = '', ...words] = open.info.split(/\s+/)
      const block = { at: `${name}:${open.line}`, language, words, text: `${open.lines.join('\n')}\n` }
      const before = blocks.at(-1)
      if (words[0] === 'output' && before?.language === 'sh') {
        blocks[blocks.length - 1] = { ...before, output: block }
      } else blocks.push(block)
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${name}:${open.line}: this block is not closed`)
  return blocks
}

/** The commands of a `sh` block: a line each, joined where one ends with a backslash. */
export function commandsOf(block: Block): readonly string[] {
  return block.text
    .replaceAll(/\\\n\s*/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.trim().startsWith('#'))
}

/** Blocks whose second word is a path, such as `python greeter/service.py`, are files of modules: module -> file -> content. */
export function modulesOf(documents: readonly Document[]): Record<string, Record<string, string>> {
  const modules: Record<string, Record<string, string>> = {}
  for (const { at, words, text } of documents.flatMap(({ blocks }) => blocks)) {
    const [module, file] = words[0]?.split('/') ?? []
    if (module === undefined || file === undefined) continue
    const files = modules[module] ?? {}
    if (files[file] !== undefined) throw new Error(`${at}: ${words[0]} is in the documents twice`)
    modules[module] = { ...files, [file]: text }
  }
  return modules
}

/** Rows of every table, cells as written, code marks taken off. */
export function rowsOf(text: string): readonly (readonly string[])[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('|') && !/^\|[\s|:-]*$/.test(line))
    .map((line) =>
      line
        .slice(1, line.lastIndexOf('|'))
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    )
}

/** What stands in code marks in a cell or a text. */
export function codesIn(text: string): readonly string[] {
  return [...text.matchAll(/`([^`\n]+)`/g)].map((match) => match[1] ?? '')
}

/** Targets of links that stay in the repository: file (relative to it) and anchor. */
export function linksOf({ name, text }: Document): readonly { readonly file: string; readonly anchor?: string }[] {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '')
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)].flatMap((match) => {
    const [path = '', anchor] = (match[1] ?? '').split('#')
    if (/^[a-z]+:/.test(path)) return []
    const file = path === '' ? name : relative(repository, join(repository, dirname(name), path))
    return [anchor === undefined ? { file } : { file, anchor }]
  })
}

/** Anchors of a document's headings, as code hosts make them. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const headings = [...text.matchAll(/^#+ (.+)$/gm)].map((match) => match[1] ?? '')
  return new Set(
    headings.map((heading) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\w\s-]/g, '')
        .replaceAll(/\s/g, '-'),
    ),
  )
}

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly patternProperties?: Readonly<Record<string, SchemaNode>>
  readonly anyOf?: readonly SchemaNode[]
  readonly default?: unknown
}

/** Every key of a schema as a dotted path, groups of keys left out; `<id>` stands for names that a user chooses. */
export function keysOf(schema: SchemaNode, path = ''): ReadonlyMap<string, unknown> {
  const keys = new Map<string, unknown>()
  const visit = (key: string, node: SchemaNode): void => {
    const inner = keysOf(node, key)
    if (inner.size === 0 || node.anyOf !== undefined) keys.set(key, node.default)
    for (const [name, value] of inner) keys.set(name, value)
  }
  for (const option of schema.anyOf ?? []) for (const [name, value] of keysOf(option, path)) keys.set(name, value)
  const named = Object.entries(schema.properties ?? {})
  const free = Object.values(schema.patternProperties ?? {}).map((node) => ['<id>', node] as const)
  for (const [name, node] of [...named, ...free]) visit(path === '' ? name : `${path}.${name}`, node)
  return keys
}

/** Whether a text holds these lines in this order; `...` in a line stands for anything. */
export function holds(text: string, expected: string): boolean {
  const lines = text.split('\n')
  let from = 0
  for (const line of expected.split('\n').filter((each) => each.trim() !== '')) {
    const pattern = new RegExp(`^${line.split('...').map(RegExp.escape).join('.*')}$`)
    const found = lines.findIndex((each, index) => index >= from && pattern.test(each))
    if (found === -1) return false
    from = found + 1
  }
  return true
}
