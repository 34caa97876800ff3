import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { plainModule } from '../support/engines.ts'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'
import { berth as command } from '../unit/cli/command.ts'

let berth: TestBerth

beforeAll(async () => {
  berth = await startBerth({ engine: 'process', modules: { plain: { ...plainModule } } })
})
afterAll(() => berth?.close())

const run = (...args: string[]) => command(args, { url: berth.url })

it('a scale that a user asks for is waited for, holds over a restart, and can be taken back', async () => {
  expect((await berth.module('plain')).replicas).toEqual([])
  const { code, stderr } = await run('scale', 'plain=1')
  expect({ code, stderr: stderr.split('\n').at(-2) }).toEqual({ code: 0, stderr: 'plain: 1 wanted, 1 there (idle)' })
  expect(await berth.module('plain')).toMatchObject({ scale: { min: 1, max: 1 }, replicas: [{ state: 'idle' }] })
  expect(await run('plan')).toMatchObject({ code: 0, stdout: '' })
  await berth.kill()
  await berth.restart()
  const after = await berth.until('plain', ({ state }) => state === 'idle')
  expect(after.scale).toEqual({ min: 1, max: 1 })
  expect((await run('scale', 'plain=default')).code).toBe(0)
  expect((await berth.module('plain')).scale).toEqual({ min: 0, max: 1 })
})

it('goes with the module that it was asked for', async () => {
  const guest = join(berth.folder, 'guest')
  await mkdir(guest)
  for (const [name, content] of Object.entries(plainModule)) await writeFile(join(guest, name), content)
  for (const scale of [{ min: 0, max: 3 }, undefined]) {
    await berth.request('POST', '/api/modules?wait=true', { source: guest })
    expect((await berth.module('guest')).scale).toEqual({ min: 0, max: 1 })
    if (scale) expect((await berth.request('PUT', '/api/modules/guest/scale', scale)).status).toBe(202)
    if (scale) expect((await berth.module('guest')).scale).toEqual(scale)
    expect((await berth.request('DELETE', '/api/modules/guest?wait=true')).status).toBe(204)
  }
})

it('of a module that is not there is MODULE_NOT_FOUND', async () => {
  const { code, stderr } = await run('scale', 'nothing=1')
  expect(code).toBe(1)
  expect(stderr).toContain('MODULE_NOT_FOUND')
})
