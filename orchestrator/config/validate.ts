import type { TSchema } from 'typebox'
import { Check } from 'typebox/value'
import { nearest } from './nearest.ts'
import type { FieldPath } from './problems.ts'

/** Where and what; `key` when the name itself is wrong. */
export type Report = (path: FieldPath, message: string, at: 'key' | 'value') => void

/** The parts of JSON Schema that the published schemas are made of. `x-expects` says a value's form for people. */
interface Shape {
  readonly type?: string
  readonly 'x-expects'?: string
  readonly anyOf?: readonly Shape[]
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Shape>>
  readonly required?: readonly string[]
  readonly patternProperties?: Readonly<Record<string, Shape>>
  readonly additionalProperties?: boolean | Shape
  readonly items?: Shape
  readonly minItems?: number
}

/**
 * Says everything that is wrong with `value`, each thing once, with the nearest valid key for a misspelt one. Finds
 * nothing exactly where the schema accepts the value.
 */
export function validate(schema: TSchema, value: unknown, report: Report): void {
  walk(schema as Shape, value, [], report)
}

function walk(given: Shape, value: unknown, path: FieldPath, report: Report): void {
  const shape = branch(given, value)
  if (shape.type === 'object' && isObject(value)) {
    walkObject(shape, value, path, report)
  } else if (shape.type === 'array' && Array.isArray(value) && shape.items !== undefined && enough(shape, value)) {
    for (const [index, item] of value.entries()) walk(shape.items, item, [...path, String(index)], report)
  } else if (!Check(given as TSchema, value)) {
    report(path, `must be ${expected(given)}, not ${shown(value)}`, 'value')
  }
}

function enough(shape: Shape, value: readonly unknown[]): boolean {
  return value.length >= (shape.minItems ?? 0)
}

function walkObject(shape: Shape, value: Record<string, unknown>, path: FieldPath, report: Report): void {
  for (const key of shape.required ?? []) {
    if (!Object.hasOwn(value, key)) report(path, `the key "${key}" is missing`, 'key')
  }
  for (const [key, item] of Object.entries(value)) {
    const inner = [...path, key]
    const known = property(shape, key)
    if (known !== undefined) walk(known, item, inner, report)
    else if (unknownRefused(shape)) report(inner, unknownKey(key, shape), 'key')
  }
}

function property(shape: Shape, key: string): Shape | undefined {
  if (shape.properties !== undefined && Object.hasOwn(shape.properties, key)) return shape.properties[key]
  for (const [pattern, inner] of Object.entries(shape.patternProperties ?? {})) {
    if (new RegExp(pattern).test(key)) return inner
  }
  return typeof shape.additionalProperties === 'object' ? shape.additionalProperties : undefined
}

function unknownRefused(shape: Shape): boolean {
  return shape.additionalProperties === false
}

function unknownKey(key: string, shape: Shape): string {
  const names = Object.keys(shape.properties ?? {})
  if (names.length === 0) return `${shape['x-expects'] ?? 'this name is not allowed here'}: "${key}" is none`
  const near = nearest(key, names)
  return near === undefined
    ? `unknown key "${key}": the keys here are ${names.join(', ')}`
    : `unknown key "${key}", did you mean "${near}"?`
}

/** Of alternatives, the object (or list) is meant where an object (or list) is written. */
function branch(shape: Shape, value: unknown): Shape {
  const type = Array.isArray(value) ? 'array' : isObject(value) ? 'object' : undefined
  return shape.anyOf?.find((option) => type !== undefined && option.type === type) ?? shape
}

function expected(shape: Shape): string {
  if (shape['x-expects'] !== undefined) return shape['x-expects']
  if (shape.enum !== undefined) return oneOf(shape.enum.map(String))
  if (shape.anyOf !== undefined) return oneOf(shape.anyOf.map(expected))
  const names: Readonly<Record<string, string>> = {
    object: 'a map of keys',
    array: 'a list',
    string: 'text',
    number: 'a number',
    integer: 'a whole number',
    boolean: 'true or false',
  }
  return names[shape.type ?? ''] ?? 'something else'
}

function oneOf(options: readonly string[]): string {
  return options.length < 2 ? options.join('') : `${options.slice(0, -1).join(', ')} or ${options.at(-1)}`
}

function shown(value: unknown): string {
  if (value === null) return 'empty'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty list' : 'a list'
  if (isObject(value)) return 'a map'
  const text = typeof value === 'string' ? JSON.stringify(value) : String(value)
  return text.length > 60 ? `${text.slice(0, 57)}...` : text
}

/**
 * The value without keys that are written but left empty (`models:` with nothing below it) where the schema knows the
 * key and leaving it out is allowed: they are read as not written.
 */
export function withoutEmpty(schema: TSchema, value: unknown): unknown {
  return strip(schema as Shape, value)
}

function strip(given: Shape, value: unknown): unknown {
  const shape = branch(given, value)
  if (shape.type !== 'object' || shape.properties === undefined || !isObject(value)) return value
  const kept: Record<string, unknown> = {}
  for (const [key, item] of Object.entries(value)) {
    const known = Object.hasOwn(shape.properties, key) ? shape.properties[key] : undefined
    if (item === null && known !== undefined && !(shape.required ?? []).includes(key)) continue
    Object.defineProperty(kept, key, {
      value: known === undefined ? item : strip(known, item),
      enumerable: true,
      writable: true,
      configurable: true,
    })
  }
  return kept
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The schema as plain JSON Schema, for `berth schema` and editors. */
export function published(schema: TSchema, title: string, id: string): Readonly<Record<string, unknown>> {
  const plain = JSON.parse(JSON.stringify(schema, (key, value) => (key === 'x-expects' ? undefined : value)))
  return { $schema: 'https://json-schema.org/draft/2020-12/schema', $id: id, title, ...plain }
}
