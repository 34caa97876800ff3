import { expect, it } from 'vitest'
import { createRig, settled } from './rig.ts'

it('each rung down the idle ladder is told, and how long the way back up took', async () => {
  const rig = createRig({ idleTtlMs: 10_000, manifest: { stopTtlMs: 60_000 } })
  await rig.ready()
  rig.clock.advance(10_000)
  await rig.offloaded()
  const back = rig.acquire()
  rig.clock.advance(250)
  await rig.loaded()
  back.granted?.release()
  rig.clock.advance(10_000)
  await rig.offloaded()
  rig.clock.advance(60_000)
  await settled()
  await rig.stopped()
  rig.acquire()
  await settled()
  rig.clock.advance(700)
  await rig.started()
  await rig.answering()
  expect(rig.told.filter((line) => /^(idled|back)/.test(line))).toEqual([
    'idled offload',
    'back load 250',
    'idled offload',
    'idled stop',
    'back start 700',
  ])
})
