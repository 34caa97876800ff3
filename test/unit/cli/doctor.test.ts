import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import http from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { describeChecks } from '../../../orchestrator/cli/commands/doctor.ts'
import { checkNode } from '../../../orchestrator/cli/doctor/node.ts'
import { berth } from './command.ts'
import { give, startFakeApi } from './fake-api.ts'

/** A machine whose programs and Docker are small stand-ins: what the checks say is then known. */
let folder: string
let docker: http.Server
let env: Record<string, string>
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'berth-doctor-'))
  const socket = path.join(folder, 'docker.sock')
  docker = http.createServer((request, response) => {
    const version = { Version: '28.0.1', ApiVersion: '1.48' }
    const info = { OSType: 'linux', Architecture: 'x86_64', Runtimes: { runc: {}, nvidia: {} } }
    response.end(JSON.stringify(request.url === '/version' ? version : info))
  })
  await new Promise<void>((resolve) => docker.listen(socket, resolve))
  await mkdir(path.join(folder, 'bin'))
  await program('python3', 'case "$*" in *index*) exit 0;; esac; echo 3.12.4')
  await program('nvidia-smi', 'echo "GPU 0: NVIDIA H200 (UUID: GPU-1)"')
  env = {
    PATH: `${path.join(folder, 'bin')}:/bin:/usr/bin`,
    DOCKER_HOST: `unix://${socket}`,
    BERTH_LISTEN: '127.0.0.1:1',
    BERTH_DATA: path.join(folder, 'data'),
  }
})
afterEach(async () => {
  docker.close()
  docker.closeAllConnections()
  await rm(folder, { recursive: true, force: true })
})

async function program(name: string, script: string): Promise<void> {
  const file = path.join(folder, 'bin', name)
  await writeFile(file, `#!/bin/sh\n${script}\n`)
  await chmod(file, 0o755)
}

interface Found {
  readonly level: string
  readonly message: string
  readonly remedy?: string
}

async function doctor(): Promise<{ code: number | null; ok: boolean; checks: Readonly<Record<string, Found>> }> {
  const api = await startFakeApi()
  api.on('GET /healthz', give({ status: 'ok' }))
  api.on('GET /readyz', give({ ready: true, reasons: [] }))
  try {
    const { code, stdout } = await berth(['doctor', '--json'], { env: { BERTH_URL: api.url, ...env } })
    const { ok, checks } = JSON.parse(stdout) as { ok: boolean; checks: (Found & { name: string })[] }
    return { code, ok, checks: Object.fromEntries(checks.map(({ name, ...rest }) => [name, rest])) }
  } finally {
    await api.close()
  }
}

describe('doctor', () => {
  it('finds everything on a machine that has everything', async () => {
    const { code, ok, checks } = await doctor()
    expect({ code, ok }).toEqual({ code: 0, ok: true })
    expect(checks).toMatchObject({
      node: { level: 'ok' },
      engine: { level: 'ok', message: `Docker 28.0.1 (API 1.48, linux/x86_64) at ${env.DOCKER_HOST}` },
      gpu: { level: 'ok', message: 'GPU 0: NVIDIA H200' },
      python: { level: 'ok', message: 'Python 3.12.4 with venv' },
      'package index': { level: 'ok' },
      berth: { level: 'ok' },
    })
  })

  it('without Docker warns of the embedded engine, and fails when Docker was asked for', async () => {
    env.DOCKER_HOST = `unix://${folder}/none.sock`
    const auto = await doctor()
    expect(auto.code).toBe(0)
    expect(auto.checks.engine).toMatchObject({
      level: 'warn',
      message: expect.stringContaining('modules run without isolation'),
      remedy: expect.stringContaining('Install and start Docker Engine'),
    })
    env.BERTH_ENGINE = 'docker'
    expect(await doctor()).toMatchObject({ code: 1, ok: false, checks: { engine: { level: 'fail' } } })
  })

  it('tells what is wrong with Python and the way to the package index', async () => {
    await program(
      'python3',
      `case "$*" in *index*) echo "ERROR: no route to the index" >&2; exit 1;; esac; echo "No module named 'ensurepip'" >&2; exit 1`,
    )
    const { checks } = await doctor()
    expect(checks.python).toMatchObject({ level: 'warn', remedy: expect.stringContaining('python3-venv') })
    expect(checks['package index']).toMatchObject({
      level: 'warn',
      message: expect.stringContaining('no route to the index'),
    })

    await program('python3', 'echo 3.6.9')
    env.BERTH_ENGINE = 'process'
    expect((await doctor()).checks.python).toMatchObject({
      level: 'fail',
      message: 'Python 3.6.9 is too old for modules',
    })
  })

  it('names another program that holds the port', async () => {
    const other = await startFakeApi()
    try {
      const address = other.url.slice('http://'.length)
      const { code, stdout } = await berth(['doctor'], { env: { ...env, BERTH_LISTEN: address } })
      expect(code).toBe(1)
      expect(stdout).toMatch(new RegExp(`fail {2}berth +another program holds ${address}\n +End that program`))
    } finally {
      await other.close()
    }
  })

  it('says that Node is too old, and what to do', () => {
    expect(describeChecks([checkNode('20.1.0')])).toBe(
      'fail  node  Node 20.1.0 can not run Berth: 24 or newer is needed\n            Start Berth with `npm run up`, which fetches one, or install Node 24.\n',
    )
  })
})
