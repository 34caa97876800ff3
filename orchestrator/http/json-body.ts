/**
 * The JSON of a request, checked before anything is built from it: UTF-8, bounded nesting, no keys that reach for a
 * prototype. Linear in the body's bytes; strings (base64 files, say) are skipped at the speed of a byte search.
 */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { BerthError, toBerthError } from '../domain/errors.ts'
import { isJsonObject, isRawNumber, type Json, parseJsonAsWritten } from '../domain/json.ts'
import { wrongContentType } from './errors.ts'
import { locateJsonError } from './json-error.ts'

/** Objects and arrays within one another: far beyond any sensible request, well below any parser's stack. */
const maxDepth = 256

const quote = 0x22
const backslash = 0x5c

/**
 * Parses a body; an empty one is `undefined`. Below its own fields, numbers that JavaScript would change are kept as they
 * were written (domain/json.ts), since modules tell `1.0` from `1`. Throws REQUEST_INVALID saying where and what is wrong.
 */
export function parseJsonBody(body: Buffer): unknown {
  if (body.length === 0) return undefined
  const { lossyNumbers } = scan(body)
  if (!isUtf8(body)) {
    throw new BerthError('REQUEST_INVALID', 'The body is not UTF-8.', { remedy: 'Send JSON encoded as UTF-8.' })
  }
  const text = body.toString('utf8')
  let value: unknown
  try {
    value = lossyNumbers ? plainFields(parseJsonAsWritten(text)) : JSON.parse(text)
  } catch {
    const at = locateJsonError(text)
    throw new BerthError(
      'REQUEST_INVALID',
      `The body is not valid JSON: ${at.problem} at line ${at.line}, column ${at.column} (position ${at.position}).`,
      { position: at.position, line: at.line, column: at.column },
    )
  }
  if (mayPoison(body)) refusePoison(value)
  return value
}

/** Makes `parseJsonBody` the only parser of an app (and of its plugins that add none of their own). */
export function useJsonBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  for (const type of ['application/json', /^application\/[\w.-]+\+json(?:;|$)/]) {
    app.addContentTypeParser(type, { parseAs: 'buffer' }, (_request, body: Buffer, done) => {
      try {
        done(null, parseJsonBody(body))
      } catch (error) {
        done(toBerthError(error))
      }
    })
  }
  app.addContentTypeParser('*', (request, _payload, done) => {
    if (request.headers['content-length'] === '0') done(null, undefined)
    else done(wrongContentType(request.headers['content-type']))
  })
}

/**
 * One pass over the bytes outside of strings. Throws at a level that is too deep; answers whether a number may say more than
 * JavaScript keeps of it: `1.0`, exponents, digits beyond 2^53.
 */
function scan(body: Buffer): { readonly lossyNumbers: boolean } {
  let depth = 0
  let digits = 0
  let lossyNumbers = false
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at] ?? 0
    if (byte >= 0x30 && byte <= 0x39) {
      digits += 1
      if (digits === 16) lossyNumbers = true
      continue
    }
    if (byte === quote) {
      at = endOfString(body, at)
    } else if (byte === 0x7b || byte === 0x5b) {
      depth += 1
      if (depth > maxDepth) throw tooDeep(at)
    } else if (byte === 0x7d || byte === 0x5d) {
      depth -= 1
    } else if (digits > 0 && (byte === 0x65 || byte === 0x45 || (byte === 0x2e && onlyZeros(body, at + 1)))) {
      lossyNumbers = true
    }
    digits = 0
  }
  return { lossyNumbers }
}

function tooDeep(position: number): BerthError {
  return new BerthError(
    'REQUEST_INVALID',
    `The body is nested deeper than ${maxDepth} levels at position ${position}.`,
    {
      position,
      maxDepth,
    },
  )
}

/** Whether the decimals that begin here are all zero. */
function onlyZeros(body: Buffer, start: number): boolean {
  let at = start
  while (body[at] === 0x30) at += 1
  const byte = body[at] ?? 0
  return byte < 0x31 || byte > 0x39
}

/** The fields of a request itself are plain numbers; only what is passed on to a module is kept as written. */
function plainFields(value: Json): unknown {
  if (isRawNumber(value)) return Number(value.rawJSON)
  if (!isJsonObject(value)) return value
  const fields: Record<string, unknown> = value
  for (const [key, field] of Object.entries(fields)) if (isRawNumber(field)) fields[key] = Number(field.rawJSON)
  return fields
}

/** Index of the closing quote, or the body's length where there is none. */
function endOfString(body: Buffer, start: number): number {
  for (let at = start; ; ) {
    at = body.indexOf(quote, at + 1)
    if (at === -1) return body.length
    let slashes = 0
    while (body[at - 1 - slashes] === backslash) slashes += 1
    if (slashes % 2 === 0) return at
  }
}

/** Cheap and never wrong in the safe direction: a key can also be written with escapes. */
function mayPoison(body: Buffer): boolean {
  return body.includes('__proto__') || body.includes('constructor') || body.includes('\\u')
}

function refusePoison(value: unknown): void {
  const open: unknown[] = [value]
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (typeof next !== 'object' || next === null) continue
    if (!Array.isArray(next)) {
      const key = poisonIn(next)
      if (key !== undefined) {
        throw new BerthError('REQUEST_INVALID', `The body has a key \`${key}\`, which Berth refuses.`, { field: key })
      }
    }
    for (const child of Object.values(next)) {
      if (typeof child === 'object' && child !== null) open.push(child)
    }
  }
}

function poisonIn(object: object): string | undefined {
  if (Object.hasOwn(object, '__proto__')) return '__proto__'
  if (!Object.hasOwn(object, 'constructor')) return undefined
  const held: unknown = object.constructor
  const reaches = typeof held === 'object' && held !== null && Object.hasOwn(held, 'prototype')
  return reaches ? 'constructor.prototype' : undefined
}
