import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { engines, plainModule } from '../support/engines.ts'
import { containersOf, processesOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

async function folderElsewhere({ folder }: TestBerth, id: string): Promise<string> {
  const path = join(folder, 'elsewhere', id)
  await mkdir(path, { recursive: true })
  for (const [name, content] of Object.entries(plainModule)) await writeFile(join(path, name), content)
  return path
}

/** What is kept of the data of its module. */
function dataOf({ dataFolder, instance }: TestBerth, engine: string): string[] {
  if (engine === 'process') return [join(dataFolder, 'modules', 'guest')].filter((path) => existsSync(path))
  const filter = ['--filter', `label=dev.berth.instance=${instance()}`, '--filter', 'label=dev.berth.module=guest']
  const text = execFileSync('docker', ['volume', 'ls', '--quiet', ...filter], { encoding: 'utf8' })
  return text.split('\n').filter((line) => line !== '')
}

async function add(berth: TestBerth, source: string) {
  const answer = await berth.request('POST', '/api/modules?wait=true', { source })
  return { status: answer.status, body: (await answer.json()) as { id?: string; error?: { code: string } } }
}

describe('a folder that is added by its path', () => {
  it('serves, is there after a restart, and goes without a trace but the folder', async () => {
    berth = await startBerth({ engine: 'process' })
    const path = await folderElsewhere(berth, 'guest')
    expect(await add(berth, path)).toMatchObject({ status: 200, body: { id: 'guest' } })
    expect((await berth.infer('guest')).at(-1)).toMatchObject({ done: true })
    await berth.kill()
    await berth.restart()
    expect((await berth.infer('guest')).at(-1)).toMatchObject({ done: true })
    expect((await berth.request('DELETE', '/api/modules/guest?wait=true')).status).toBe(204)
    expect((await berth.request('GET', '/api/modules/guest')).status).toBe(404)
    expect((await stat(path)).isDirectory()).toBe(true)
  })

  it.each(engines)('goes without a trace also when Berth is killed while it goes (%s)', async (engine) => {
    berth = await startBerth({ engine })
    const current = berth
    await add(berth, await folderElsewhere(berth, 'guest'))
    const stream = await berth.stream('guest', { parameters: { n: 2_000, pause: 0.02 } })
    await stream.nextOf()
    expect(dataOf(berth, engine)).toHaveLength(1)
    // It drains what is in flight first: there is time to be killed in.
    expect((await berth.request('DELETE', '/api/modules/guest')).status).toBe(202)
    await berth.kill()
    await berth.restart()
    expect((await berth.request('GET', '/api/modules/guest')).status).toBe(404)
    await waitFor(20_000, 'its data is gone', async () => dataOf(current, engine).length === 0)
    const left =
      engine === 'docker' ? containersOf(berth.instance()) : processesOf(`BERTH_INSTANCE=${berth.instance()}`)
    expect(left).toEqual([])
  })

  it('is added also when others are at the same time', async () => {
    berth = await startBerth({ engine: 'process' })
    const current = berth
    const ids = ['one', 'two', 'three', 'four']
    const paths = await Promise.all(ids.map((id) => folderElsewhere(current, id)))
    const answers = await Promise.all(paths.map((path) => add(current, path)))
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200])
    const { modules } = await berth.json<{ modules: { id: string }[] }>('GET', '/api/modules')
    expect(modules.map(({ id }) => id)).toEqual([...ids].sort())
  })

  it('is refused, and not watched, when it is no module or one already', async () => {
    berth = await startBerth({ engine: 'process', modules: { plain: { ...plainModule } } })
    for (const source of ['/', '/etc', berth.folder, berth.modulesFolder])
      expect(await add(berth, source)).toMatchObject({ status: 422, body: { error: { code: 'MANIFEST_INVALID' } } })
    expect(await add(berth, join(berth.modulesFolder, 'plain'))).toMatchObject({ status: 400 })
    expect((await berth.request('DELETE', '/api/modules/plain')).status).toBe(403)
    expect(berth.log()).not.toContain('EACCES')
  })
})
