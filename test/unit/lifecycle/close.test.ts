import { describe, expect, it } from 'vitest'
import { asker } from '../../support/asker.ts'
import { createRig, settled } from './rig.ts'

describe('close', () => {
  it('settles everyone who waits for anything', async () => {
    const rig = createRig()
    const all = [
      rig.work((signal) => rig.writer.acquire({ model: 'm', maxInflight: 1, ...asker, signal })),
      rig.work((signal) => rig.writer.ensureLoaded({ model: 'm', maxInflight: 1, ...asker, signal })),
      rig.work((signal) => rig.writer.load({ m: {} }, signal)),
      rig.work((signal) => rig.writer.until(() => false, signal)),
    ]
    await settled()
    rig.writer.close()
    await settled()
    expect(all.map(({ error }) => error?.code)).toEqual(Array(4).fill('SHUTTING_DOWN'))
    const late = rig.work((signal) => rig.writer.until(() => false, signal))
    const asked = rig.acquire()
    const load = rig.work((signal) => rig.writer.load({}, signal))
    await settled()
    expect([late.error?.code, asked.error?.code, load.error?.code]).toEqual(Array(3).fill('SHUTTING_DOWN'))
  })

  it('stops nothing and starts nothing, whatever comes in afterwards', async () => {
    const rig = createRig({ manifest: { scale: { min: 1, max: 1 } } })
    await rig.ready()
    const running = rig.acquire()
    await settled()
    const calls = rig.effects.calls.length
    rig.writer.close()
    running.granted?.release('hung')
    rig.writer.post({ type: 'exited', replica: 'mod-0', generation: 1, error: running.error as never })
    rig.clock.advance(3_600_000)
    await settled()
    expect(rig.effects.calls.length).toBe(calls)
    expect(rig.clock.pending).toBe(0)
  })

  it('during a start leaves the workload to the next orchestrator', async () => {
    const rig = createRig()
    const asked = rig.acquire()
    await rig.prepared()
    await rig.started()
    rig.writer.close()
    await settled()
    expect(asked.error?.code).toBe('SHUTTING_DOWN')
    expect(rig.effects.count('stop')).toBe(0)
  })

  it('during an adoption leaves the workload to the next orchestrator', async () => {
    const rig = createRig()
    const adopted = rig.work(() => rig.writer.adopt(rig.observed({ generation: 7 }), rig.workload(7)))
    rig.writer.close()
    await settled()
    expect(adopted.error).toBeDefined()
    expect(rig.effects.count('stop')).toBe(0)
  })

  it('lets a stop under way finish', async () => {
    const rig = createRig()
    await rig.ready()
    rig.writer.post({ type: 'want', wanted: 'disabled' })
    await settled()
    rig.writer.close()
    await rig.stopped()
    expect(rig.effects.calls.every((call) => call.settled)).toBe(true)
  })
})

describe('until', () => {
  it('resolves as soon as its condition holds, and rejects when its signal says so', async () => {
    const rig = createRig()
    const prepared = rig.work((signal) => rig.writer.until((state) => state.preparation.state === 'done', signal))
    const never = rig.work((signal) => rig.writer.until(() => false, signal))
    rig.writer.post({ type: 'tick' })
    await rig.prepared()
    expect(prepared.over).toBe(true)
    never.abort.abort()
    await settled()
    expect(never.error?.code).toBe('CLIENT_CLOSED')
  })
})
