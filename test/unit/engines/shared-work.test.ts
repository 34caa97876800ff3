import { describe, expect, it } from 'vitest'
import { SharedWork } from '../../../orchestrator/engines/shared-work.ts'

const ignore = (): void => undefined
const never = new AbortController().signal

describe('shared work', () => {
  it('runs once for callers of one key, and apart for another key', async () => {
    const work = new SharedWork<string, number>()
    let runs = 0
    const run = (key: string) =>
      work.run(key, never, ignore, async () => {
        runs += 1
        return runs
      })
    expect(await Promise.all([run('a'), run('a'), run('b')])).toEqual([1, 1, 2])
    expect(await run('a')).toBe(3)
  })

  it('fails for every caller, and can be tried again', async () => {
    const work = new SharedWork<string, number>()
    const failing = () => work.run('a', never, ignore, () => Promise.reject(new Error('no')))
    const outcomes = await Promise.allSettled([failing(), failing()])
    expect(outcomes.map((each) => each.status)).toEqual(['rejected', 'rejected'])
    expect(await work.run('a', never, ignore, async () => 1)).toBe(1)
  })

  it('tells progress to all, and the latest to one that joins late', async () => {
    const work = new SharedWork<string, void>()
    const { promise, resolve } = Promise.withResolvers<void>()
    const first: string[] = []
    const late: string[] = []
    let tell: (progress: string) => void = ignore
    const running = work.run(
      'a',
      never,
      (each) => first.push(each),
      (_signal, report) => {
        tell = report
        return promise
      },
    )
    await Promise.resolve()
    tell('one')
    tell('two')
    const joined = work.run(
      'a',
      never,
      (each) => late.push(each),
      async () => undefined,
    )
    tell('three')
    resolve()
    await Promise.all([running, joined])
    expect([first, late]).toEqual([
      ['one', 'two', 'three'],
      ['two', 'three'],
    ])
  })

  it('goes on while one caller is left, and is cancelled when none is', async () => {
    const work = new SharedWork<string, void>()
    let cancelled = false
    const begin = (signal: AbortSignal) =>
      work.run('a', signal, ignore, (cancel) => {
        return new Promise((_resolve, reject) => {
          cancel.addEventListener('abort', () => {
            cancelled = true
            reject(cancel.reason)
          })
        })
      })
    const one = new AbortController()
    const other = new AbortController()
    const leaving = begin(one.signal)
    const staying = begin(other.signal)
    one.abort(new Error('left'))
    await expect(leaving).rejects.toThrow('left')
    expect(cancelled).toBe(false)
    other.abort(new Error('left too'))
    await expect(staying).rejects.toThrow('left too')
    expect(cancelled).toBe(true)
  })

  it('begins anew only when what was cancelled has ended', async () => {
    const work = new SharedWork<string, string>()
    const order: string[] = []
    const cleaned = Promise.withResolvers<void>()
    const leaving = new AbortController()
    const first = work.run('a', leaving.signal, ignore, async (signal) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await cleaned.promise
      order.push('first ended')
      throw signal.reason
    })
    await Promise.resolve()
    leaving.abort(new Error('left'))
    await expect(first).rejects.toThrow('left')
    const second = work.run('a', never, ignore, async () => {
      order.push('second began')
      return 'made'
    })
    cleaned.resolve()
    expect(await second).toBe('made')
    expect(order).toEqual(['first ended', 'second began'])
  })

  it('is cancelled by close, which waits for its end', async () => {
    const work = new SharedWork<string, void>()
    let ended = false
    const running = work.run('a', never, ignore, async (signal) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      ended = true
      throw signal.reason
    })
    const outcome = expect(running).rejects.toThrow('closing')
    await Promise.resolve()
    await work.close(new Error('closing'))
    expect(ended).toBe(true)
    await outcome
  })
})
