/** Exponential back-off with jitter: 0.5 s, 1 s, 2 s ... 60 s, each shortened by up to a fifth. */
const firstMs = 500
const longestMs = 60_000

/** A replica that lived this long was healthy: its next failure counts as the first. */
export const healthyAfterMs = 60_000

/** `failures` in a row (1 or more); `random` in [0, 1). Milliseconds. */
export function backOffMs(failures: number, random: number): number {
  const full = Math.min(longestMs, firstMs * 2 ** Math.min(failures - 1, 20))
  return Math.round(full * (1 - random / 5))
}

/** After so many failures in a row only a request starts a replica again, without the models that it had loaded. */
export const revivals = 3
