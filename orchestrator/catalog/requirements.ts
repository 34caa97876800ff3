import { readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import type { Requirements } from '../domain/manifest.ts'
import { type FileDigests, type FileStamp, sha256 } from './files.ts'

/**
 * What a module wants installed, as a hash that stays the same while the outcome does: comments, blank lines, the
 * spelling of names and (without options among them) the order of lines don't count; local files that are named do.
 */
export interface RequirementsInput {
  readonly folder: string
  readonly files: readonly FileStamp[]
  readonly digests: FileDigests
  /** From `module.yaml` and `module_settings`. */
  readonly extra: readonly string[]
}

/** Included files may include others; a chain longer than this is a mistake. */
const includeLimit = 50

export async function readRequirements(input: RequirementsInput): Promise<Requirements> {
  const has = (name: string) => input.files.some(({ path }) => path === name)
  const file = ['requirements.py', 'requirements.txt'].find(has)
  const reader = createReader(input)
  const own =
    file === undefined ? nothing : file === 'requirements.py' ? await reader.program(file) : await reader.list(file)
  const added = await reader.lines(input.extra, '')
  const empty = own.empty && added.empty
  return {
    ...(file === undefined ? {} : { file }),
    extra: input.extra,
    hash: sha256(empty ? '' : [own.text, added.text].join('\n--\n')),
    empty,
  }
}

interface Part {
  readonly text: string
  /** Nothing in it installs anything. */
  readonly empty: boolean
}

const nothing: Part = { text: '', empty: true }

function createReader({ folder, files, digests }: RequirementsInput) {
  const included = new Set<string>()
  const known = new Map(files.map((file) => [file.path, file]))

  /** Hash of a file or folder of the module; undefined when there is none of that name. */
  const local = async (path: string): Promise<string | undefined> => {
    const inside = normalize(path).replace(/\/$/, '')
    if (inside.startsWith('..') || inside.startsWith('/')) return undefined
    const stamp = known.get(inside)
    if (stamp !== undefined) return digests.of(join(folder), [stamp])
    const below = inside === '.' ? files : files.filter((file) => file.path.startsWith(`${inside}/`))
    return below.length === 0 ? undefined : digests.of(folder, below)
  }

  const list = async (path: string): Promise<Part> => {
    if (included.has(path) || included.size > includeLimit) return nothing
    included.add(path)
    const text = await readFile(join(folder, path), 'utf8').catch(() => undefined)
    if (text === undefined) return { text: `missing ${path}`, empty: false }
    return lines(logicalLines(text), dirname(path))
  }

  const lines = async (written: readonly string[], directory: string): Promise<Part> => {
    const parts: string[] = []
    let empty = true
    for (const line of written.map((text) => text.trim()).filter((text) => text !== '')) {
      const include = /^(-r|--requirement|-c|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(\S.*)$/.exec(line)
      if (include !== null) {
        const constraint = include[1] === '-c' || include[1] === '--constraint'
        const part = await list(normalize(join(directory, unquoted(include[2] ?? ''))))
        parts.push(`${constraint ? '-c' : '-r'} {\n${part.text}\n}`)
        empty &&= constraint || part.empty
        continue
      }
      const content = await local(localPath(line))
      parts.push(normalLine(line) + (content === undefined ? '' : ` # ${content}`))
      empty &&= isOption(line)
    }
    const ordered = parts.some((part) => part.startsWith('-')) ? parts : parts.sort()
    return { text: ordered.join('\n'), empty }
  }

  /** A program decides itself: its text counts, lists beside it, and what it imports or names in a string of the module. */
  const program = async (path: string): Promise<Part> => {
    const text = await readFile(join(folder, path), 'utf8')
    const parts = [`program ${sha256(text)}`]
    for (const { path: beside } of files) {
      if (/^(requirements|constraints)[^/]*\.txt$/.test(beside))
        parts.push(`${beside} {\n${(await list(beside)).text}\n}`)
    }
    const imported = [...text.matchAll(/^[ \t]*(?:from|import)[ \t]+(\w+)/gm)].map(([, name]) => `${name}.py`)
    for (const name of new Set([...quotedStrings(text), ...imported])) {
      const content = name === '.' ? undefined : await local(name)
      if (content !== undefined) parts.push(`${name} ${content}`)
    }
    return { text: parts.join('\n'), empty: false }
  }

  return { list, lines, program }
}

/** Lines as pip reads them: continued ones joined, comments taken off. */
function logicalLines(text: string): readonly string[] {
  return text
    .replace(/^\uFEFF/, '')
    .replace(/\r\n?/g, '\n')
    .split(/(?<!\\)\n/)
    .map((line) => line.replace(/\\\n/g, ' '))
    .map((line) => line.replace(/(^|\s)#.*$/s, ''))
}

/** `Foo_Bar [x] >= 1.0` and `foo-bar[x]>=1.0` are one requirement. URLs, paths and options stay as written. */
function normalLine(line: string): string {
  const match = /^([A-Za-z0-9][A-Za-z0-9._-]*)\s*(\[[^\]]*\])?\s*((?:[<>=!~]=?=?|\().*|;.*)?$/.exec(line)
  if (match === null || /^[^;]*[/:]/.test(line)) return line.replace(/\s+/g, ' ')
  const [, name = '', extras = '', rest = ''] = match
  const [versions = '', ...marker] = rest.split(';')
  const canonical = name.toLowerCase().replace(/[-_.]+/g, '-')
  const tail = marker.length === 0 ? '' : `;${marker.join(';').trim().replace(/\s+/g, ' ')}`
  return canonical + extras.replace(/\s/g, '').toLowerCase() + versions.replace(/\s+(?!--)/g, '') + tail
}

/** An option alone installs nothing; `-e .` does. */
function isOption(line: string): boolean {
  return line.startsWith('-') && !/^(-e|--editable)\b/.test(line)
}

/** The path that a line may name: of a wheel, a folder, `-e folder`, `--find-links folder`, `name @ file:./wheel`. */
function localPath(line: string): string {
  const target = line
    .replace(/^(-e|--editable|-f|--find-links)(\s*=\s*|\s+)/, '')
    .replace(/^[^@/]*@\s*(?=file:|\.)/, '')
    .replace(/^file:(\/\/)?/, '')
    .replace(/\s+--\S.*$/, '')
    .replace(/\s*;.*$/, '')
  return unquoted(target.trim()).replace(/\[[^\]]*\]$/, '')
}

function unquoted(text: string): string {
  return text.trim().replace(/^(["'])(.*)\1$/, '$2')
}

function quotedStrings(text: string): readonly string[] {
  return [...text.matchAll(/(["'])((?:(?!\1)[^\\\n])+)\1/g)].map((match) => match[2] ?? '')
}
