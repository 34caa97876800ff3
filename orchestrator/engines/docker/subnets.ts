/** IPv4 ranges as numbers: which small subnet of a configured range is free. */
export interface Range {
  readonly first: number
  readonly last: number
}

/** `10.213.0.0/16`; undefined when the text is no such range. */
export function parseRange(text: string): Range | undefined {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text.trim())
  if (match === null) return undefined
  const numbers = match.slice(1).map(Number)
  const prefix = numbers[4] ?? 33
  if (prefix > 32 || numbers.slice(0, 4).some((byte) => byte > 255)) return undefined
  const address = numbers.slice(0, 4).reduce((sum, byte) => sum * 256 + byte, 0)
  const size = 2 ** (32 - prefix)
  const first = Math.floor(address / size) * size
  return { first, last: first + size - 1 }
}

export function formatSubnet(first: number, prefix: number): string {
  const bytes = [24, 16, 8, 0].map((shift) => Math.floor(first / 2 ** shift) % 256)
  return `${bytes.join('.')}/${prefix}`
}

/**
 * Subnets of `prefix` in the ranges that overlap none of those in use, in an order that begins at a place that `seed`
 * decides: two orchestrators that choose at the same time seldom choose the same.
 */
export function* freeSubnets(
  ranges: readonly Range[],
  prefix: number,
  used: readonly Range[],
  seed: number,
): Iterable<string> {
  const size = 2 ** (32 - prefix)
  const counts = ranges.map(({ first, last }) => Math.floor((last - first + 1) / size))
  const total = counts.reduce((sum, count) => sum + count, 0)
  for (let step = 0; step < total; step += 1) {
    let index = (seed + step) % total
    for (const [at, range] of ranges.entries()) {
      const count = counts[at] ?? 0
      if (index >= count) {
        index -= count
        continue
      }
      const first = range.first + index * size
      const taken = used.some((other) => first <= other.last && other.first <= first + size - 1)
      if (!taken) yield formatSubnet(first, prefix)
      break
    }
  }
}

/** The routes of a Linux machine (`/proc/net/route`), the default route left out. */
export function parseRoutes(table: string): readonly Range[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line): Range[] => {
      const [, destination, , , , , , mask] = line.split('\t')
      if (destination === undefined || mask === undefined || mask === '00000000') return []
      const first = littleEndian(destination)
      const size = 2 ** 32 - littleEndian(mask)
      return Number.isFinite(first) && Number.isFinite(size) ? [{ first, last: first + size - 1 }] : []
    })
}

function littleEndian(hex: string): number {
  const bytes = hex.match(/../g) ?? []
  return bytes.reverse().reduce((sum, byte) => sum * 256 + Number.parseInt(byte, 16), 0)
}
