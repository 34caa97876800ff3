import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Environments, type Install } from '../../../../orchestrator/engines/process/environments.ts'
import { lockFile } from '../../../../orchestrator/engines/process/exclusive-lock.ts'

const key = 'abcdef0123456789abcdef01'
const ignore = (): void => undefined
const signal = new AbortController().signal

describe('environments on the disk', () => {
  let folder: string
  let installs: number
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-environments-'))
    installs = 0
  })
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true })
  })

  const opened = async (inUse: readonly string[] = []): Promise<Environments> => {
    const environments = new Environments(folder, () => new Set(inUse))
    await environments.open()
    return environments
  }

  const install: Install = async (target) => {
    installs += 1
    await mkdir(target)
    const marker = { key, pythonVersion: '3.11.2', installer: 'uv', python: 'bin/python', createdAt: 'now', bytes: 5 }
    await writeFile(join(target, 'environment.json'), JSON.stringify(marker))
  }

  it('are made once and found again', async () => {
    const environments = await opened()
    const info = { key, bytes: 5, createdAt: 'now' }
    expect(await environments.ensure(key, signal, ignore, install)).toEqual({ environment: info, cached: false })
    expect(await (await opened()).ensure(key, signal, ignore, install)).toEqual({ environment: info, cached: true })
    expect(await environments.list()).toEqual([info])
    expect(installs).toBe(1)
  })

  it('are made once by several owners of the folder', async () => {
    const owners = await Promise.all([opened(), opened(), opened()])
    await Promise.all(owners.map((owner) => owner.ensure(key, signal, ignore, install)))
    expect(installs).toBe(1)
  })

  it('that an install left half are wiped before the next one, and never listed', async () => {
    const environments = await opened()
    await mkdir(join(folder, key))
    await writeFile(join(folder, key, 'half'), 'x')
    expect(await environments.list()).toEqual([])
    await environments.ensure(key, signal, ignore, async (target, ...rest) => {
      expect(await readdir(folder)).not.toContain(key)
      await install(target, ...rest)
    })
    expect(await environments.marker(key)).toMatchObject({ key })
  })

  it('that an install left half are removed when the folder is opened, unless somebody is at it', async () => {
    await mkdir(join(folder, key))
    const release = await lockFile(join(folder, `${key}.lock`), signal)
    await opened()
    expect(await readdir(folder)).toContain(key)
    release()
    await opened()
    expect(await readdir(folder)).toEqual([`${key}.lock`])
  })

  it('whose install failed leave nothing', async () => {
    const environments = await opened()
    const failing: Install = async (target) => {
      await mkdir(target)
      throw new Error('disk full')
    }
    await expect(environments.ensure(key, signal, ignore, failing)).rejects.toThrow('disk full')
    expect((await readdir(folder)).filter((name) => !name.endsWith('.lock'))).toEqual([])
  })

  it('whose installer said it was done without a marker are an error', async () => {
    const environments = await opened()
    const empty: Install = async (target) => void (await mkdir(target))
    await expect(environments.ensure(key, signal, ignore, empty)).rejects.toMatchObject({ code: 'INTERNAL' })
  })

  it('with a marker of another key or a torn one do not count', async () => {
    const environments = await opened()
    await mkdir(join(folder, key))
    for (const text of ['{"key":"other","python":"bin/python"}', '{"key":"abc', 'null', '[]']) {
      await writeFile(join(folder, key, 'environment.json'), text)
      expect(await environments.marker(key)).toBeUndefined()
    }
  })

  it('in use are not pruned', async () => {
    const environments = await opened([key])
    await environments.ensure(key, signal, ignore, install)
    expect(await environments.prune(new Set())).toEqual([])
    expect(await (await opened()).prune(new Set())).toMatchObject([{ key }])
    expect(await environments.list()).toEqual([])
  })
})
