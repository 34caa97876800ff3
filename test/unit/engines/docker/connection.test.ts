import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { connectionFrom } from '../../../../orchestrator/engines/docker/connection.ts'
import { fromVendor } from '../../../../orchestrator/engines/docker/daemon-error.ts'
import { createDockerEngine, probeDocker } from '../../../../orchestrator/engines/docker/docker-engine.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-docker-'))
})
afterEach(() => rm(folder, { recursive: true }))

describe('the way to the daemon', () => {
  it.each([
    ['unix:///run/other.sock', { kind: 'unix', socketPath: '/run/other.sock' }],
    ['/run/other.sock', { kind: 'unix', socketPath: '/run/other.sock' }],
    ['tcp://10.0.0.5:2375', { kind: 'tcp', host: '10.0.0.5', port: 2375 }],
    ['tcp://docker.example', { kind: 'tcp', host: 'docker.example', port: 2375 }],
    ['docker.example:4243', { kind: 'tcp', host: 'docker.example', port: 4243 }],
    ['tcp://[::1]:2375', { kind: 'tcp', host: '::1', port: 2375 }],
  ])('is DOCKER_HOST: %s', (DOCKER_HOST, expected) => {
    expect(connectionFrom({ DOCKER_HOST })).toMatchObject(expected)
  })

  it('is the system’s socket, else one of this user', async () => {
    const runtime = join(folder, 'docker.sock')
    await writeFile(runtime, '')
    const { socketPath } = connectionFrom({ HOME: '/nonexistent', XDG_RUNTIME_DIR: folder }) as { socketPath: string }
    expect(['/var/run/docker.sock', runtime]).toContain(socketPath)
  })

  it('takes certificates where TLS is asked for', async () => {
    for (const name of ['ca', 'cert', 'key']) await writeFile(join(folder, `${name}.pem`), name)
    const env = { DOCKER_HOST: 'tcp://docker.example', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: folder }
    expect(connectionFrom(env)).toMatchObject({ port: 2376, tls: { ca: 'ca', cert: 'cert', key: 'key' } })
  })

  it.each([
    [
      { DOCKER_HOST: 'tcp://docker.example', DOCKER_TLS_VERIFY: '1', DOCKER_CERT_PATH: '/nonexistent' },
      'DOCKER_CERT_PATH',
    ],
    [{ DOCKER_HOST: 'ssh://me@docker.example' }, 'DOCKER_HOST'],
    [{ DOCKER_HOST: 'tcp://' }, 'DOCKER_HOST'],
  ])('names the variable that is wrong: %o', (env, field) => {
    expect(() => connectionFrom(env)).toThrow(
      expect.objectContaining({ code: 'ENGINE_UNAVAILABLE', details: expect.objectContaining({ field }) }),
    )
  })
})

describe('a daemon that can not be used', () => {
  const connect = (DOCKER_HOST: string): Promise<void> =>
    createDockerEngine({ instance: 'i', repositoryRoot: '.', env: { DOCKER_HOST } }).connect(AbortSignal.timeout(5_000))

  it('is absent where there is no socket', async () => {
    const host = `unix://${folder}/none.sock`
    expect(await probeDocker({ DOCKER_HOST: host })).toMatchObject({
      kind: 'absent',
      reason: expect.stringContaining('none.sock'),
    })
    await expect(connect(host)).rejects.toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      details: { remedy: expect.stringContaining('DOCKER_HOST') },
    })
  })

  it('is absent where nothing listens', async () => {
    expect(await probeDocker({ DOCKER_HOST: 'tcp://127.0.0.1:1' })).toMatchObject({ kind: 'absent' })
    await expect(connect('tcp://127.0.0.1:1')).rejects.toMatchObject({
      details: { remedy: expect.stringContaining('systemctl start docker') },
    })
  })

  it('is told apart from one that this user may not use', () => {
    const denied = Object.assign(new Error('connect EACCES /var/run/docker.sock'), { code: 'EACCES' })
    expect(fromVendor(denied, 'unix:///var/run/docker.sock')).toMatchObject({
      code: 'ENGINE_UNAVAILABLE',
      details: { remedy: expect.stringContaining('usermod -aG docker') },
    })
  })

  it('is broken where something else answers', async () => {
    const server = createServer((_request, reply) => reply.end('{"hello":"world"}'))
    await new Promise<void>((resolve) => server.listen(join(folder, 'web.sock'), resolve))
    try {
      const host = `unix://${folder}/web.sock`
      expect(await probeDocker({ DOCKER_HOST: host })).toMatchObject({
        kind: 'broken',
        reason: expect.stringContaining('no Docker daemon'),
      })
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })

  it('is broken where it is too old', async () => {
    const server = createServer((_request, reply) => reply.end('{"ApiVersion":"1.30","Version":"17.06"}'))
    await new Promise<void>((resolve) => server.listen(join(folder, 'old.sock'), resolve))
    try {
      await expect(connect(`unix://${folder}/old.sock`)).rejects.toMatchObject({
        details: { remedy: expect.stringContaining('20.10') },
      })
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
  })
})
