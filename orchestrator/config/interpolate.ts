import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

/** Where `${VAR}` and `${file:...}` are read from. */
export interface Substitutions {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Folder that relative paths in `${file:...}` start from. */
  readonly folder: string
}

export interface Interpolated {
  readonly text: string
  /** The text was one `${VAR}` and nothing else. */
  readonly whole: boolean
  readonly faults: readonly { readonly token: string; readonly message: string }[]
}

const tokens = /\$\$\{|\$\{([^}]*)\}?/g
const variable = /^([A-Za-z_][A-Za-z0-9_]*)(?::-([\s\S]*))?$/

/**
 * Replaces `${VAR}` (an error when unset), `${VAR:-default}` (also when empty) and `${file:/path}` (content without
 * the line end at its end); `$${` stands for a literal `${`. What was put in is not read again.
 */
export function interpolate(text: string, from: Substitutions): Interpolated {
  if (!text.includes('${')) return { text, whole: false, faults: [] }
  const faults: { token: string; message: string }[] = []
  const replaced = text.replace(tokens, (token: string, inner: string | undefined) => {
    if (inner === undefined) return '${'
    const result = token.endsWith('}') ? substitute(inner, from) : { fault: `"${token}" has no closing brace` }
    if ('value' in result) return result.value
    faults.push({ token, message: result.fault })
    return ''
  })
  return { text: replaced, whole: /^\$\{[A-Za-z_][^}]*\}$/.test(text) && !text.startsWith('${file:'), faults }
}

function substitute(inner: string, from: Substitutions): { readonly value: string } | { readonly fault: string } {
  if (inner.startsWith('file:')) return readSecret(inner.slice('file:'.length), from)
  const match = variable.exec(inner)
  const name = match?.[1]
  if (name === undefined) {
    return {
      fault: `"\${${inner}}" is no variable: write \${NAME}, \${NAME:-default} or \${file:/path}, and $\${ for the characters themselves`,
    }
  }
  const fallback = match?.[2]
  const value = from.env[name]
  if (fallback !== undefined) return { value: value === undefined || value === '' ? fallback : value }
  if (value !== undefined) return { value }
  return {
    fault: `the environment variable ${name} is not set: set it, or give a default with \${${name}:-default}; $\${${name}} is the text itself`,
  }
}

function readSecret(path: string, from: Substitutions): { readonly value: string } | { readonly fault: string } {
  if (path.trim() === '') return { fault: `"\${file:}" names no file: write \${file:/path}` }
  try {
    return { value: readFileSync(resolve(from.folder, path.trim()), 'utf8').replace(/\r?\n$/, '') }
  } catch (error) {
    return { fault: `the file ${path.trim()} can't be read (${reason(error)}): make it, or correct the path` }
  }
}

/** `ENOENT`, or the message of an error that has no code. */
export function reason(error: unknown): string {
  if (error instanceof Error) return 'code' in error && typeof error.code === 'string' ? error.code : error.message
  return String(error)
}

/**
 * `{token: ${TOKEN}}` is written in every configuration and is no YAML, since braces and commas end a value inside of
 * `{}`. So what stands in `${...}` is parsed with stand-ins for such characters, one for one: places stay what they are.
 */
const veiled = '{}[],:#'
const standIn = 0xe000

export function veil(text: string): string {
  return text.replace(/\$\{[^}\n]*\}/g, (token) =>
    token.replace(/[{}[\],:#]/g, (character) => String.fromCharCode(standIn + veiled.indexOf(character))),
  )
}

/** The text that was veiled. */
export function unveil(text: string): string {
  return text.replace(/\$\ue000[^\n\ue001]*\ue001/g, (token) =>
    token.replace(/[\ue000-\ue006]/g, (character) => veiled.charAt(character.charCodeAt(0) - standIn)),
  )
}
