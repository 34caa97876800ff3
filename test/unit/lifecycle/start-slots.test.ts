import { expect, it } from 'vitest'
import { StartSlots } from '../../../orchestrator/lifecycle/start-slots.ts'
import { settled } from './rig.ts'

const never = new AbortController().signal

it('as many start at once as there are slots, the others in order of arrival', async () => {
  const slots = new StartSlots(2)
  const order: number[] = []
  const releases: (() => void)[] = []
  for (const number of [1, 2, 3, 4]) {
    slots.take(never).then((release) => {
      order.push(number)
      releases.push(release)
    })
  }
  await settled()
  expect(order).toEqual([1, 2])
  releases[0]?.()
  releases[0]?.()
  await settled()
  expect(order).toEqual([1, 2, 3])
})

it('one that is given up leaves its place to the next', async () => {
  const slots = new StartSlots(1)
  const release = await slots.take(never)
  const abort = new AbortController()
  const given = slots.take(abort.signal).catch((error: unknown) => error)
  const next = slots.take(never)
  abort.abort()
  expect(await given).toMatchObject({ code: 'CLIENT_CLOSED' })
  release()
  expect(await next).toBeTypeOf('function')
})
