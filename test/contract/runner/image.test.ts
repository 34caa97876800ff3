import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  compileCacheFolder,
  type HealthAnswer,
  installerNodeFlags,
  runnerNodeFlags,
} from '../../../module-runner/protocol.ts'
import { dockerAvailable } from '../../support/docker.ts'
import { docker, removeInstances, testInstance } from '../../support/docker-cleanup.ts'
import { framesOf, inference, modules, patience } from './support.ts'

/** The runner's image: its files in a volume, mounted into a hardened container of an image that knows nothing of Berth. */
const root = join(import.meta.dirname, '../../..')
const run = promisify(execFile)
const instance = testInstance()
const mark = ['--label', `dev.berth.instance=${instance}`]
const base = 'python:3.13-slim-trixie'
const server = '/berth/runner/app/module-runner/server'
const volume = `berth-${instance}`

describe.skipIf(!dockerAvailable)('the runner image', () => {
  let image = ''
  beforeAll(async () => {
    const build = [
      'build',
      '--quiet',
      '--label',
      'dev.berth.test=1',
      '--file',
      join(root, 'module-runner/Dockerfile'),
      root,
    ]
    image = (await run('docker', build)).stdout.trim()
    await docker('volume', 'create', ...mark, volume)
    const filler = await docker('create', ...mark, '--volume', `${volume}:/berth/runner`, image)
    await docker('rm', filler)
  })
  afterAll(async () => {
    await removeInstances((one) => one === instance)
    await docker('image', 'rm', image).catch(() => undefined)
  })

  it('holds the runner and nothing else, readable by everybody', async () => {
    const inside = (command: string) =>
      docker(
        'run',
        '--rm',
        ...mark,
        '--user',
        '4711',
        '--volume',
        `${volume}:/berth/runner:ro`,
        base,
        'sh',
        '-c',
        command,
      )
    const { Architecture, Os } = JSON.parse(await docker('image', 'inspect', '--format', '{{json .}}', image))
    expect([Os, Architecture]).toEqual(['linux', expect.any(String)])
    expect((await inside('ls /berth/runner /berth/runner/bin /berth/runner/app')).split(/\s+/)).toEqual(
      expect.arrayContaining(['app', 'bin', compileCacheFolder, 'node', 'uv', 'module-runner', 'node_modules']),
    )
    expect(await inside('ls /berth/runner/app/node_modules')).toBe('yaml')
    expect(await inside('find /berth/runner -type f ! -perm -o=r; find /berth/runner -perm -o=w ! -type l')).toBe('')
    expect(await inside('/berth/runner/bin/node --version; /berth/runner/bin/uv --version')).toMatch(/^v2\d.*\nuv \d/)
  })

  it('serves a module in a locked container, in 75 MB together with the worker', async () => {
    const container = await startRunner('basic')
    await container.call('POST', '/load', { models: { m: {} } })
    const { text } = await container.call('POST', '/infer', inference({ chunks: 2 }))
    expect(framesOf(text)).toHaveLength(3)
    const resident = async () =>
      (await docker('top', container.id, '-eo', 'pid,rss'))
        .split('\n')
        .slice(1)
        .reduce((sum, line) => sum + Number(line.trim().split(/\s+/)[1]), 0)
    await vi.waitFor(async () => expect(await resident()).toBeLessThan(75 * 1024), patience)
  })

  it('tells that a module ran out of memory, and goes on', async () => {
    const container = await startRunner('dies', '--memory', '150m', '--memory-swap', '150m')
    await container.call('POST', '/load', { models: { m: {} } })
    const { text } = await container.call('POST', '/infer', inference({ chunks: 1, die: 'memory' }))
    const { error } = framesOf(text).at(-1)
    expect(error).toMatchObject({ code: 'OUT_OF_MEMORY', origin: 'module' })
    await vi.waitFor(async () => {
      expect((await container.health()).workerRestarts).toBe(1)
      expect((await container.health()).state).toBe('idle')
    }, patience)
  })

  it('installs with its uv, and says when the disk is full', async () => {
    const order = { key: 'k', folder: '/berth/env', module: '/tmp', extra: [], gpu: 'NO_GPU', cache: '/tmp/cache' }
    const install = (size: string) =>
      docker(
        'run',
        '--rm',
        ...mark,
        '--read-only',
        '--user',
        '10001:10001',
        '--network',
        'none',
        '--tmpfs',
        '/tmp:mode=1777',
        '--tmpfs',
        `/berth/env:uid=10001,size=${size}`,
        '--volume',
        `${volume}:/berth/runner:ro`,
        '--env',
        'BERTH_UV=/berth/runner/bin/uv',
        '--env',
        `BERTH_INSTALL=${JSON.stringify(order)}`,
        '--entrypoint',
        '/berth/runner/bin/node',
        base,
        ...installerNodeFlags,
        `${server}/install.ts`,
      ).then(
        (text) => text,
        (error: { stdout: string }) => error.stdout,
      )
    expect(await install('50m')).not.toContain('failure')
    const lines = (await install('8k')).trim().split('\n')
    expect(JSON.parse(lines.at(-1) ?? '').failure.message).toContain('the disk is full')
  })

  async function startRunner(module: string, ...options: readonly string[]) {
    const configuration = {
      id: 'tested',
      format: 'service',
      entry: 'service.py',
      models: { m: {} },
      onDisconnect: 'cancel',
      calls: [],
      drainMs: 1000,
      callMs: 1000,
      paths: { module: '/berth/module', data: '/berth/data', cache: '/berth/cache' },
    }
    const id = await docker(
      'run',
      '--detach',
      ...mark,
      ...options,
      '--read-only',
      '--user',
      '10001:10001',
      '--cap-drop',
      'ALL',
      '--security-opt',
      'no-new-privileges',
      '--tmpfs',
      '/tmp:mode=1777',
      '--tmpfs',
      '/run/berth:uid=10001,gid=10001,mode=0700',
      '--tmpfs',
      '/berth/data:uid=10001',
      '--tmpfs',
      '/berth/cache:uid=10001',
      '--volume',
      `${volume}:/berth/runner:ro`,
      '--volume',
      `${join(modules, module)}:/berth/module:ro`,
      '--publish',
      '127.0.0.1::8000',
      '--env',
      `NODE_COMPILE_CACHE=/berth/runner/${compileCacheFolder}`,
      '--env',
      'TEST_FOLDER=/nowhere',
      '--env',
      `BERTH_MODULE=${JSON.stringify(configuration)}`,
      '--entrypoint',
      '/berth/runner/bin/node',
      base,
      ...runnerNodeFlags,
      `${server}/main.ts`,
    )
    const address = (await docker('port', id, '8000')).split('\n')[0]
    async function call(method: string, path: string, body?: unknown) {
      const init = body === undefined ? { method } : { method, body: JSON.stringify(body) }
      const answer = await fetch(`http://${address}${path}`, init)
      return { status: answer.status, text: await answer.text() }
    }
    const health = async (): Promise<HealthAnswer> => JSON.parse((await call('GET', '/health')).text)
    await vi.waitFor(async () => expect((await health()).state).toBe('idle'), patience)
    return { id, call, health }
  }
})
