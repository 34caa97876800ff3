import { describe, expect, it } from 'vitest'
import type { WaitOptions } from '../../../orchestrator/lifecycle/lease.ts'
import { type Asked, createRig, settled } from './rig.ts'

/** Serves one after the other; answers in which order, by name. */
async function served(all: Readonly<Record<string, Asked>>): Promise<string[]> {
  const order: string[] = []
  for (const [name, { lease }] of Object.entries(all)) {
    lease.then(
      () => order.push(name),
      () => {},
    )
  }
  for (let round = 0; round < Object.keys(all).length; round += 1) {
    await settled()
    all[order.at(-1) ?? '']?.granted?.release()
  }
  await settled()
  return order
}

const from = (caller: string, more: Partial<WaitOptions> = {}): Partial<WaitOptions> => ({ caller, ...more })

describe('the line', () => {
  it('serves the one request of one caller second, where another has fifty waiting', async () => {
    const rig = createRig()
    await rig.ready()
    const all: Record<string, Asked> = { first: rig.acquire('m', from('a')) }
    for (let count = 1; count < 50; count += 1) all[`a${count}`] = rig.acquire('m', from('a'))
    all.b = rig.acquire('m', from('b'))
    const order = await served(all)
    expect(order.indexOf('b')).toBeLessThanOrEqual(2)
    expect(order).toHaveLength(51)
  })

  it('lets callers take turns, each in its own order', async () => {
    const rig = createRig()
    await rig.ready()
    const running = rig.acquire('m', from('z'))
    await settled()
    const all: Record<string, Asked> = {}
    for (const name of ['a1', 'a2', 'a3', 'b1', 'b2', 'c1']) all[name] = rig.acquire('m', from(name.slice(0, 1)))
    await settled()
    running.granted?.release()
    expect(await served(all)).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3'])
  })

  it('serves a higher priority first, whoever asks', async () => {
    const rig = createRig()
    await rig.ready()
    const running = rig.acquire('m', from('z'))
    await settled()
    const all = {
      low: rig.acquire('m', from('a', { priority: 'low' })),
      normal: rig.acquire('m', from('a', { priority: 'normal' })),
      high: rig.acquire('m', from('a', { priority: 'high' })),
      other: rig.acquire('m', from('b', { priority: 'high' })),
    }
    await settled()
    running.granted?.release()
    expect(await served(all)).toEqual(['high', 'other', 'normal', 'low'])
  })

  it('that is full sends away the last of the loudest, not who comes with one request', async () => {
    const rig = createRig({ manifest: { queue: { limit: 3, timeoutMs: 60_000 } } })
    await rig.ready()
    rig.acquire('m', from('a'))
    const loud = [0, 1, 2].map(() => rig.acquire('m', from('a')))
    await settled()
    const quiet = rig.acquire('m', from('b'))
    await settled()
    expect(quiet.error).toBeUndefined()
    expect(loud.map(({ error }) => error?.code)).toEqual([undefined, undefined, 'MODULE_BUSY'])
  })

  it('says honestly when to come again: how long the line will take at the pace of now', async () => {
    const rig = createRig({ manifest: { queue: { limit: 2, timeoutMs: 60_000 } } })
    await rig.ready()
    const first = rig.acquire()
    await settled()
    rig.clock.advance(10_000)
    first.granted?.release()
    rig.acquire()
    const all = [0, 1, 2].map(() => rig.acquire())
    await settled()
    expect(all.at(-1)?.error).toMatchObject({ code: 'MODULE_BUSY', details: { retryAfterSeconds: 20 } })
  })

  it('tells each the place that it really has', async () => {
    const rig = createRig()
    await rig.ready()
    rig.acquire('m', from('a'))
    const [second, third] = [rig.acquire('m', from('a')), rig.acquire('m', from('a'))]
    await settled()
    const other = rig.acquire('m', from('b'))
    await settled()
    expect([second?.positions, third?.positions, other.positions]).toEqual([[1, 2], [2, 3], [1]])
  })

  it('is not for ever headed by whoever is new', async () => {
    const rig = createRig()
    await rig.ready()
    let current = rig.acquire('m', from('a'))
    await settled()
    const second = rig.acquire('m', from('a'))
    let others = 0
    for (; others < 20 && !second.granted; others += 1) {
      const next = rig.acquire('m', from(`new ${others}`))
      await settled()
      current.granted?.release()
      await settled()
      current = next
    }
    expect(others).toBeLessThanOrEqual(3)
  })

  it('remembers no more callers than it needs', async () => {
    const rig = createRig()
    await rig.ready()
    let current = rig.acquire('m', from('first'))
    for (let count = 0; count < 1_500; count += 1) {
      const next = rig.acquire('m', from(`caller ${count}`))
      await settled()
      current.granted?.release()
      await settled()
      current = next
      rig.acquire('m', from('last', { priority: 'low' })).lease.catch(() => {})
      if (count % 50 === 0) rig.clock.advance(1)
    }
    expect(rig.state.served.size).toBeLessThanOrEqual(1_000)
  })
})
