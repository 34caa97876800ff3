import { afterEach, expect, test, vi } from 'vitest'
import { steadyClock, systemClock } from '../../../orchestrator/domain/clock.ts'

afterEach(() => {
  vi.useRealTimers()
})

test('the steady clock begins at the time of the machine and takes no part in its leaps', () => {
  expect(Math.abs(steadyClock.now() - systemClock.now())).toBeLessThan(60_000)
  const before = steadyClock.now()
  for (const leapMs of [-3_600_000, 86_400_000]) {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + leapMs })
    expect(steadyClock.now()).toBeGreaterThanOrEqual(before)
    expect(steadyClock.now()).toBeLessThan(before + 60_000)
    vi.useRealTimers()
  }
})
