import { vi } from 'vitest'

/** Waits until the check no longer throws: looks often, and gives up only when a slow machine could not be the reason. */
export function eventually(check: () => void): Promise<void> {
  return vi.waitFor(check, { interval: 5, timeout: 9_000 })
}
