import { randomUUID } from 'node:crypto'
import { mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { inferFailure, textOf } from '../support/answers.ts'
import { dockerAvailable } from '../support/docker.ts'
import { docker } from '../support/docker-cleanup.ts'
import { engines, plainModule } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'
import { mayMount, mountSmallDisk } from '../support/small-disk.ts'
import { uvVariables } from '../support/test-uv.ts'
import { makeWheel } from '../support/wheels.ts'

/** Requirements that can't be installed: an error with the installer's last lines, and a retry as soon as they are mended. */

describe.each(engines)('requirements on the %s engine', (engine) => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({ engine, modules: { good: { ...plainModule } }, env: await uvVariables() })
    await berth.infer('good')
  })
  afterAll(() => berth?.close())

  async function module(id: string, requirements: Readonly<Record<string, string>>): Promise<void> {
    const making = join('..', 'making', id)
    const wheels = join(berth.modulesFolder, making, 'wheels')
    await makeWheel(wheels, { name: 'tinywheel' })
    await makeWheel(wheels, { name: 'tinyneeds', requires: ['tinywheel==2.0'] })
    await berth.writeModule(making, { ...requirements, ...plainModule })
    // Comes in whole, as with a `git clone` that is moved into place.
    await rename(join(berth.modulesFolder, making), join(berth.modulesFolder, id))
  }

  const failed = (id: string) => berth.until(id, ({ error }) => error !== undefined, 120_000)

  async function othersGoOn(): Promise<void> {
    expect(textOf(await berth.infer('good'))).toBe('0')
    expect((await berth.module('good')).replicas).toMatchObject([{ generation: 1, restarts: 0 }])
  }

  it('that no index has fail with the last lines, and install without a restart once they are mended', async () => {
    await module('absent', { 'requirements.txt': '--no-index\nno-such-package-anywhere==1.2.3\n' })
    const { state, error } = await failed('absent')
    expect(state).toBe('failed')
    expect(error).toMatchObject({ code: 'REQUIREMENTS_FAILED', retryable: false })
    expect(error?.message).toMatch(/absent.*no-such-package-anywhere/s)
    expect(error?.details).toMatchObject({
      module: 'absent',
      file: 'requirements.txt',
      lines: expect.arrayContaining([expect.stringContaining('no-such-package-anywhere')]),
      remedy: expect.stringMatching(/correct/),
    })
    const refused = await inferFailure(berth, 'absent')
    expect(refused).toMatchObject({ code: 'REQUIREMENTS_FAILED', status: 502 })
    await othersGoOn()

    await berth.writeModule('absent', {
      'requirements.txt': '--no-index\n./wheels/tinywheel-1.0-py3-none-any.whl\n',
    })
    await waitFor(60_000, 'it answers', async () => textOf(await berth.infer('absent')) === '0')
    expect(await berth.module('absent')).toMatchObject({ state: 'ready', environment: { state: 'ready' } })
    expect((await berth.module('absent')).error).toBeUndefined()
  })

  it('that conflict fail naming both sides', async () => {
    await module('conflict', {
      'requirements.txt': '--no-index\n--find-links wheels\ntinywheel==1.0\ntinyneeds==1.0\n',
    })
    const { error } = await failed('conflict')
    expect(error?.code).toBe('REQUIREMENTS_FAILED')
    const said = JSON.stringify(error?.details?.lines)
    expect(said).toMatch(/tinywheel==1\.0/)
    expect(said).toMatch(/tinyneeds/)
    await othersGoOn()
  })

  it('that are a program fail with what it raised', async () => {
    await module('raising', { 'requirements.py': 'def Install(_):\n    raise OSError("the moon is wrong")\n' })
    const { error } = await failed('raising')
    expect(error).toMatchObject({ code: 'REQUIREMENTS_FAILED', details: { file: 'requirements.py' } })
    expect(error?.message).toContain('the moon is wrong')
  })

  it('that are a program without Install say which forms there are', async () => {
    await module('formless', { 'requirements.py': 'print("hello")\n' })
    const { error } = await failed('formless')
    expect(error?.message).toMatch(/no function `Install`.*Install\(gpu, vulkan, env, args\)/)
  })
})

describe.runIf(mayMount())('a disk that is full during an install', () => {
  it('is named, leaves no half environment, and harms no other module', async () => {
    const disk = mountSmallDisk(64)
    let berth: TestBerth | undefined
    try {
      berth = await startBerth({
        engine: 'process',
        modules: { good: { ...plainModule } },
        env: { ...(await uvVariables()), BERTH_DATA: disk.folder, TMPDIR: disk.folder, NODE_COMPILE_CACHE: '' },
      })
      await berth.infer('good')
      const wheels = join(berth.folder, 'wheels')
      await mkdir(wheels)
      const wheel = await makeWheel(wheels, { name: 'tinyhuge', paddingBytes: 200 * 1024 * 1024 })
      await berth.writeModule('huge', {
        'requirements.txt': `--no-index\n${join(wheels, wheel)}\n`,
        ...plainModule,
      })
      const { error } = await berth.until('huge', (view) => view.error !== undefined, 120_000)
      expect(error).toMatchObject({ code: 'REQUIREMENTS_FAILED', details: { module: 'huge' } })
      expect(error?.message).toMatch(/disk|space/i)
      expect(textOf(await berth.infer('good'))).toBe('0')
      const { environments } = await berth.json<{ environments: unknown[] }>('GET', '/api/environments')
      expect(environments).toEqual([])
    } finally {
      await berth?.close()
      disk.remove()
    }
  })
})

describe.skipIf(!dockerAvailable)('a disk of Docker that is full during an install', () => {
  it('is named, leaves no half environment, harms no other module, and the install works once there is room', async () => {
    const berth = await startBerth({ engine: 'docker', modules: { good: { ...plainModule } } })
    const holder = `berth-test-full-${randomUUID()}`
    let volume = ''
    try {
      await berth.infer('good')
      const making = join('..', 'making', 'huge')
      const wheels = join(berth.modulesFolder, making, 'wheels')
      const wheel = await makeWheel(wheels, { name: 'tinyhuge', paddingBytes: 100 * 1024 * 1024 })
      await berth.writeModule(making, { 'requirements.txt': `--no-index\n./wheels/${wheel}\n`, ...plainModule })
      await rename(join(berth.modulesFolder, making), join(berth.modulesFolder, 'huge'))
      const installed = (view: ModuleView) => view.environment?.state === 'ready' || view.error !== undefined
      const { environment } = await berth.until('huge', installed, 120_000)
      expect(environment?.state).toBe('ready')

      // In its volume's place comes one on a file system too small for it, which a running container keeps mounted.
      await berth.json('POST', '/api/modules/huge/disable?wait=true')
      volume = `berth-env-${environment?.key}`
      await docker('volume', 'rm', volume)
      const small = `type=volume,source=${volume},target=/held,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-opt=o=size=48m`
      await docker('run', '--detach', '--name', holder, '--mount', small, 'python:3.13-slim-trixie', 'sleep', '600')
      await berth.json('POST', '/api/modules/huge/enable')
      const refused = await inferFailure(berth, 'huge')
      expect(refused).toMatchObject({ code: 'REQUIREMENTS_FAILED', status: 502, details: { module: 'huge' } })
      expect(JSON.stringify(refused)).toMatch(/no space|disk/i)
      expect(textOf(await berth.infer('good'))).toBe('0')
      const { environments } = await berth.json<{ environments: { key: string }[] }>('GET', '/api/environments')
      expect(environments.map(({ key }) => key)).not.toContain(environment?.key)

      await docker('rm', '--force', holder)
      await docker('volume', 'rm', '--force', volume)
      await berth.json('POST', '/api/modules/huge/restart')
      await waitFor(120_000, 'it answers', async () => textOf(await berth.infer('huge')) === '0')
    } finally {
      await docker('rm', '--force', holder).catch(() => {})
      await berth.close()
      if (volume !== '') await docker('volume', 'rm', '--force', volume).catch(() => {})
    }
  })
})
