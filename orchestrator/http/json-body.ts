/**
 * The JSON of a request, checked before anything is built from it: UTF-8, bounded nesting, no keys that reach for a
 * prototype. Linear in the body's bytes; strings (base64 files, say) are skipped at the speed of a byte search.
 */
import { isUtf8 } from 'node:buffer'
import type { FastifyInstance } from 'fastify'
import { BerthError, toBerthError } from '../domain/errors.ts'
import { wrongContentType } from './errors.ts'
import { locateJsonError } from './json-error.ts'

/** Objects and arrays within one another: far beyond any sensible request, well below any parser's stack. */
const maxDepth = 256

const quote = 0x22
const backslash = 0x5c

/** Parses a body; an empty one is `undefined`. Throws REQUEST_INVALID saying where and what is wrong. */
export function parseJsonBody(body: Buffer): unknown {
  if (body.length === 0) return undefined
  checkDepth(body)
  if (!isUtf8(body)) {
    throw new BerthError('REQUEST_INVALID', 'The body is not UTF-8.', { remedy: 'Send JSON encoded as UTF-8.' })
  }
  const text = body.toString('utf8')
  let value: unknown
  try {
    value = JSON.parse(text)
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

function checkDepth(body: Buffer): void {
  if (body.length <= maxDepth) return
  let depth = 0
  for (let at = 0; at < body.length; at += 1) {
    const byte = body[at]
    if (byte === quote) {
      at = endOfString(body, at)
    } else if (byte === 0x7b || byte === 0x5b) {
      depth += 1
      if (depth > maxDepth) {
        throw new BerthError(
          'REQUEST_INVALID',
          `The body is nested deeper than ${maxDepth} levels at position ${at}.`,
          {
            position: at,
            maxDepth,
          },
        )
      }
    } else if (byte === 0x7d || byte === 0x5d) {
      depth -= 1
    }
  }
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
