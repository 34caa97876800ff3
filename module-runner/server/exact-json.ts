/**
 * JSON that keeps numbers as they were written: `1.0` stays `1.0`, so that Python makes a float of it, and integers of any
 * length keep every digit. `writeExact` gives back the text that `parseExact` read.
 */
interface ExactJson {
  rawJSON(text: string): object
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
}
// Node 24 has both (JSON.parse source text access); TypeScript's library does not describe them yet.
const json = JSON as unknown as ExactJson

/** The parsed value, in which a number that JavaScript would write differently is an opaque object. Throws SyntaxError. */
export function parseExact(text: string): unknown {
  return json.parse(text, (_key, value, { source }) =>
    typeof value === 'number' && source !== undefined && String(value) !== source ? json.rawJSON(source) : value,
  )
}

export function writeExact(value: unknown): string {
  return JSON.stringify(value)
}

/** A floating-point number that Python must not take for an integer. An infinity is written as a number too large. */
export function exactFloat(value: number): unknown {
  if (value === Number.POSITIVE_INFINITY) return json.rawJSON('1e999')
  if (value === Number.NEGATIVE_INFINITY) return json.rawJSON('-1e999')
  const text = Object.is(value, -0) ? '-0' : String(value)
  return Number.isInteger(value) && !text.includes('e') ? json.rawJSON(`${text}.0`) : value
}

/** An integer of any size. */
export function exactInteger(text: string): unknown {
  return json.rawJSON(text)
}
