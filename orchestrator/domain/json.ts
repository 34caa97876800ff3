/**
 * JSON values. A number may occur raw: as `JSON.rawJSON('1.0')`, an object that JSON.stringify writes out as its text.
 * Configuration holds numbers so where JavaScript would lose how they were written (`1.0` becoming `1`, digits beyond
 * 2^53), because they reach Python, where `1.0` and `1` differ. Raw numbers are lost by structuredClone.
 */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject
export interface JsonObject {
  readonly [key: string]: Json | undefined
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isRawNumber(value)
}

interface RawJson {
  readonly rawJSON: string
}

/** What Node's JSON has and TypeScript's library does not know yet. */
const json = JSON as unknown as {
  rawJSON(text: string): JsonObject
  isRawJSON(value: unknown): value is RawJson
  parse(text: string, reviver: (key: string, value: Json, context: { readonly source?: string }) => Json): Json
}

/** A number that JSON.stringify writes as `text`, which must be a JSON number. */
export function rawNumber(text: string): Json {
  return json.rawJSON(text)
}

export function isRawNumber(value: unknown): value is RawJson {
  return json.isRawJSON(value)
}

/** JSON.parse that keeps a number raw where a number would lose how it was written. Throws SyntaxError. */
export function parseJsonAsWritten(text: string): Json {
  return json.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined ? numberAsWritten(value, source) : value,
  )
}

/** `value` itself where it says all that `source` (a JSON number) says, else the raw number. */
export function numberAsWritten(value: number, source: string): Json {
  // A float beyond a number's range (`1e999`) would be written out as null.
  const says = /[.eE]/.test(source) ? Number.isFinite(value) && !Number.isInteger(value) : Number.isSafeInteger(value)
  return says ? value : rawNumber(source)
}
