import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { dockerAvailable } from '../../support/docker.ts'
import { docker } from '../../support/docker-cleanup.ts'
import { type DockerHarness, dockerHarness, ignore, inside, inspect, patience, soon, untilHealthy } from './harness.ts'

/** Containers of modules: started, stopped, found again, and nothing left that nobody owns. */
describe.skipIf(!dockerAvailable)('a Docker workload', () => {
  let harness: DockerHarness
  beforeAll(async () => {
    harness = await dockerHarness()
  })
  afterAll(() => harness?.dispose())
  afterEach(async () => {
    for (const { id } of await harness.engine.list()) await harness.engine.stop(id, { graceMs: 0 })
  })

  const ofInstance = (): Promise<string> =>
    docker('ps', '--all', '--quiet', '--filter', `label=dev.berth.instance=${harness.instance}`)

  it('is adopted by a new engine object, as it is', async () => {
    const { id, endpoint, spec } = await harness.start()
    const later = await harness.open()
    expect(await later.list()).toMatchObject([
      { id, endpoint, state: 'running', specHash: spec.specHash, generation: 1 },
    ])
    expect((await later.start(spec, soon())).id).toBe(id)
  })

  it('that hangs is killed after its grace, and gone with its files', async () => {
    const { id } = await harness.start({ env: { TEST_STUBBORN: '1' } })
    const files = (await inspect(id)).Mounts.find(({ Destination }) => Destination === '/berth/module')?.Name ?? ''
    expect(await docker('volume', 'ls', '--quiet', '--filter', `name=${files}`)).toBe(files)
    const followed: string[] = []
    const following = (async () => {
      for await (const { text } of harness.engine.logs(id, { follow: true, signal: soon() })) followed.push(text)
    })()
    await vi.waitFor(() => expect(followed).toContain('runner up'), patience)
    await harness.engine.stop(id, { graceMs: 200 })
    await following
    expect(followed).toContain('SIGTERM')
    expect(await ofInstance()).toBe('')
    expect(await docker('volume', 'ls', '--quiet', '--filter', `name=${files}`)).toBe('')
  })

  it('is stopped also when it is paused', async () => {
    const { id } = await harness.start()
    await docker('pause', id)
    expect(await harness.engine.list()).toMatchObject([{ state: 'paused' }])
    await harness.engine.stop(id, { graceMs: 5_000 })
    expect(await ofInstance()).toBe('')
  })

  it('is stopped also while somebody else removes it', async () => {
    const { id } = await harness.start()
    await Promise.all([
      harness.engine.stop(id, { graceMs: 0 }),
      docker('rm', '--force', id).catch(ignore),
      harness.engine.stop(id, { graceMs: 0 }),
    ])
    expect(await ofInstance()).toBe('')
  })

  it('that ends as soon as it starts says so with its last lines, and leaves nothing', async () => {
    const spec = harness.spec({ env: { TEST_EXIT: '3' } })
    await harness.engine.prepare(spec, soon(), ignore)
    const outcome = await harness.engine.start(spec, soon()).then(
      async ({ id }) => {
        // It may live long enough to be seen running: then it is an exited one in the list.
        await vi.waitFor(
          async () => expect(await harness.engine.list()).toMatchObject([{ state: 'exited', exit: { code: 3 } }]),
          patience,
        )
        await harness.engine.stop(id, { graceMs: 0 })
        return 'seen'
      },
      (error: unknown) => {
        expect(error).toMatchObject({
          code: 'WORKLOAD_EXITED',
          details: { module: 'probe', code: 3, lines: ['this runner leaves at once'] },
        })
        return 'told'
      },
    )
    expect(['seen', 'told']).toContain(outcome)
    expect(await ofInstance()).toBe('')
  })

  it('tells an exit by a signal', async () => {
    const { id } = await harness.start()
    await docker('kill', id)
    await vi.waitFor(async () => {
      expect(await harness.engine.list()).toMatchObject([
        { id, state: 'exited', exit: { code: 137, signal: 'SIGKILL' } },
      ])
    }, patience)
    expect((await harness.engine.list())[0]?.exit?.outOfMemory).toBeUndefined()
  })

  it('tells that it ran out of memory', async () => {
    const { id, endpoint } = await harness.start({ limits: { pids: 64, memoryBytes: 128 * 1024 * 1024 } })
    await inside(endpoint, 'const all = []; for (;;) all.push(Buffer.alloc(16 * 1024 * 1024, 1))').catch(ignore)
    await vi.waitFor(async () => {
      expect(await harness.engine.list()).toMatchObject([{ id, state: 'exited', exit: { outOfMemory: true } }])
    }, patience)
  })

  it('half made by an orchestrator that died is replaced', async () => {
    const spec = harness.spec()
    await harness.engine.prepare(spec, soon(), ignore)
    const { id } = await harness.engine.start(spec, soon())
    const { Config } = await inspect(id)
    await harness.engine.stop(id, { graceMs: 0 })
    const marks = Object.entries(Config.Labels).flatMap(([name, value]) => ['--label', `${name}=${value}`])
    await docker('create', '--name', `berth-${harness.instance}-probe-0`, ...marks, 'python:3.13-slim-trixie', 'true')
    expect(await harness.engine.list()).toMatchObject([{ state: 'created', generation: 1 }])
    await untilHealthy((await harness.engine.start(spec, soon())).endpoint)
    expect(await harness.engine.list()).toMatchObject([{ state: 'running', generation: 1 }])
  })

  it('never takes the place of a container that Berth has not made', async () => {
    const name = `berth-${harness.instance}-probe-0`
    const foreign = await docker('create', '--name', name, 'python:3.13-slim-trixie', 'true')
    try {
      const spec = harness.spec()
      await harness.engine.prepare(spec, soon(), ignore)
      await expect(harness.engine.start(spec, soon())).rejects.toMatchObject({
        code: 'ENGINE_UNAVAILABLE',
        message: expect.stringContaining(name),
        details: { remedy: expect.stringContaining('docker rm') },
      })
      await harness.engine.stop(foreign, { graceMs: 0 })
      expect((await inspect(foreign)).State.Status).toBe('created')
    } finally {
      await docker('rm', '--force', foreign)
    }
  })

  it('starts again when its network was removed behind our back', async () => {
    const first = await harness.start()
    await harness.engine.stop(first.id, { graceMs: 0 })
    await docker('network', 'rm', `berth-${harness.instance}-probe`)
    const spec = harness.spec({ generation: 2 })
    await untilHealthy((await harness.engine.start(spec, soon())).endpoint)
  })

  it('keeps its data until that is forgotten, and its network until it is away', async () => {
    const kept = (kind: 'network' | 'volume'): Promise<string> => {
      const marks = [`label=dev.berth.instance=${harness.instance}`, 'label=dev.berth.module=probe']
      return docker(kind, 'ls', '--quiet', ...marks.flatMap((mark) => ['--filter', mark]))
    }
    const first = await harness.start()
    await inside(first.endpoint, "require('fs').writeFileSync('/berth/data/module/kept', 'kept')")
    await harness.engine.stop(first.id, { graceMs: 0 })
    const second = await harness.start({ generation: 2 })
    expect(await inside(second.endpoint, "return require('fs').readFileSync('/berth/data/module/kept', 'utf8')")).toBe(
      'kept',
    )
    await expect(harness.engine.forget('probe', { data: true })).rejects.toThrow()
    await harness.engine.stop(second.id, { graceMs: 0 })
    const volumes = await kept('volume')
    await Promise.all([1, 2].map(() => harness.engine.forget('probe', { data: false })))
    expect([await kept('network'), await kept('volume')]).toEqual(['', volumes])
    expect(volumes).not.toBe('')
    await harness.engine.forget('probe', { data: true })
    expect([await kept('network'), await kept('volume')]).toEqual(['', ''])
  })

  it('leaves nothing when it is given up at any moment of its start', async () => {
    const spec = harness.spec()
    await harness.engine.prepare(spec, soon(), ignore)
    for (let ms = 0; ms <= 240; ms += 30) {
      const outcome = await harness.engine.start({ ...spec, generation: ms + 1 }, AbortSignal.timeout(ms)).then(
        ({ id }) => [id],
        () => [],
      )
      expect((await harness.engine.list()).map(({ id }) => id)).toEqual(outcome)
    }
  })

  describe('gets the files of its folder', () => {
    let folder: string
    beforeEach(async () => {
      folder = await mkdtemp(join(tmpdir(), 'berth-module-'))
    })
    afterEach(() => rm(folder, { recursive: true }))

    it('readable, whatever their mode here, and without what is no file', async () => {
      const long = `${'a-long-folder-name-'.repeat(5)}/${'b'.repeat(90)}.txt`
      await mkdir(join(folder, long.split('/')[0] ?? ''), { mode: 0o700 })
      await writeFile(join(folder, long), 'long')
      await writeFile(join(folder, 'weights.bin'), Buffer.alloc(3 * 1024 * 1024, 7), { mode: 0o600 })
      await writeFile(join(folder, 'name with ünïcode 模.txt'), 'unicode')
      await writeFile(join(folder, 'empty'), '')
      await writeFile(join(folder, 'tool'), '#!/bin/sh\n')
      await chmod(join(folder, 'tool'), 0o700)
      await mkdir(join(folder, '__pycache__'))
      await symlink('weights.bin', join(folder, 'link'))
      await symlink(join(folder, 'weights.bin'), join(folder, 'absolute'))
      const socket = createServer()
      await new Promise<void>((resolve) => socket.listen(join(folder, 'socket'), resolve))
      try {
        const { endpoint } = await harness.start({ folder })
        const seen = await inside(
          endpoint,
          `const fs = require('fs'), root = '/berth/module/probe/'
           return { names: fs.readdirSync(root).sort(), long: fs.readFileSync(root + ${JSON.stringify(long)}, 'utf8'),
             size: fs.readFileSync(root + 'weights.bin').length, link: fs.readFileSync(root + 'link').length,
             absolute: fs.readlinkSync(root + 'absolute'), owner: fs.statSync(root + 'weights.bin').uid,
             modes: ['weights.bin', 'tool', '.'].map((name) => (fs.statSync(root + name).mode & 0o777).toString(8)) }`,
        )
        expect(seen).toEqual({
          names: [
            'a-long-folder-name-'.repeat(5),
            'absolute',
            'empty',
            'link',
            'name with ünïcode 模.txt',
            'tool',
            'weights.bin',
          ],
          long: 'long',
          size: 3 * 1024 * 1024,
          link: 3 * 1024 * 1024,
          absolute: 'weights.bin',
          owner: 0,
          modes: ['644', '755', '755'],
        })
      } finally {
        await new Promise((resolve) => socket.close(resolve))
      }
    })

    it.each([
      ['a link to the outside', 'outside', '/etc/passwd'],
      ['a link up', 'up', '../../etc/passwd'],
      ['a link to nowhere outside', 'nowhere', '/nonexistent/file'],
    ])('but not %s', async (_what, name, target) => {
      await symlink(target, join(folder, name))
      const spec = harness.spec({ folder })
      await harness.engine.prepare(spec, soon(), ignore)
      await expect(harness.engine.start(spec, soon())).rejects.toMatchObject({
        code: 'MANIFEST_INVALID',
        details: { module: 'probe', file: name, remedy: expect.any(String) },
      })
      expect(await ofInstance()).toBe('')
    })

    it('but not through a folder that is a link to the outside', async () => {
      await symlink('/etc', join(folder, 'folder'))
      await symlink('folder/passwd', join(folder, 'through'))
      const spec = harness.spec({ folder })
      await harness.engine.prepare(spec, soon(), ignore)
      await expect(harness.engine.start(spec, soon())).rejects.toMatchObject({ code: 'MANIFEST_INVALID' })
    })
  })

  it('is watched, and its log is cut into bounded lines', async () => {
    const { id, endpoint } = await harness.start()
    await inside(endpoint, "console.log('x'.repeat(200_000)); console.log('€'.repeat(30_000)); console.log('after')")
    const lines: string[] = []
    await vi.waitFor(async () => {
      lines.length = 0
      for await (const { text } of harness.engine.logs(id, { signal: soon() })) lines.push(text)
      expect(lines).toContain('after')
    }, patience)
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(64 * 1024)
    expect(lines.filter((line) => line.startsWith('x')).join('')).toBe('x'.repeat(200_000))
    expect(lines.filter((line) => line.startsWith('€')).join('')).toBe('€'.repeat(30_000))
  })
})
