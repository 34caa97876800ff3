/**
 * JSON with keys in one order at every depth, so that equal values have equal text: what hashes are made of.
 * `undefined` members are left out as JSON does; numbers that JSON can't write (Infinity: "no limit") keep their name,
 * so that they differ from null.
 */
export function stableJson(value: unknown): string {
  return JSON.stringify(value, (_key, member: unknown) => {
    if (typeof member === 'number' && !Number.isFinite(member)) return `@@${member}`
    if (typeof member !== 'object' || member === null || Array.isArray(member)) return member
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
  })
}
