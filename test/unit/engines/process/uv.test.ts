import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { findPython, type HostPython, satisfies } from '../../../../orchestrator/engines/process/python.ts'
import { findUv, uvVersion } from '../../../../orchestrator/engines/process/uv.ts'

const signal = AbortSignal.timeout(60_000)
const ignore = (): void => undefined
const path = process.env.PATH ?? ''

describe('Python of the machine', () => {
  it('is found with what decides about its environments', async () => {
    const python = await findPython({ PATH: path }, undefined)
    expect(python).toMatchObject({ path: expect.stringMatching(/^\//), version: expect.stringMatching(/^3\.\d+\.\d+/) })
    expect(python?.identity).toContain(python?.version)
  })

  it('is none where the wanted version is not there', async () => {
    expect(await findPython({ PATH: path }, '3.99')).toBeUndefined()
    expect(await findPython({ PATH: '/nonexistent' }, undefined)).toBeUndefined()
  })

  it('satisfies a shorter version', () => {
    expect(satisfies('3.12.1', '3.12')).toBe(true)
    expect(satisfies('3.12.1', '3.1')).toBe(false)
    expect(satisfies('3.12.1', '3.12.1')).toBe(true)
  })
})

describe('uv', () => {
  let folder: string
  let server: Server | undefined
  let python: HostPython | undefined
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-uv-'))
    const found = await findPython({ PATH: path }, undefined)
    // As on Debian without python3-venv: only the standard library is there to fetch it with.
    python = found === undefined ? undefined : { ...found, canMakeEnvironments: false }
  })
  afterEach(async () => {
    server?.close()
    server = undefined
    await rm(folder, { recursive: true, force: true })
  })

  /** A package index with one wheel of uv in it; answers its address. */
  async function index(hash?: string): Promise<string> {
    await mkdir(join(folder, `uv-${uvVersion}.data/scripts`), { recursive: true })
    await writeFile(join(folder, `uv-${uvVersion}.data/scripts/uv`), '#!/bin/sh\necho a fake uv\n')
    const wheel = join(folder, 'uv.whl')
    execFileSync(python?.path ?? 'python3', ['-m', 'zipfile', '-c', wheel, join(folder, `uv-${uvVersion}.data`)])
    const bytes = await readFile(wheel)
    const sum = hash ?? createHash('sha256').update(bytes).digest('hex')
    const machine = execFileSync('uname', ['-m'], { encoding: 'utf8' }).trim()
    const platform =
      process.platform === 'darwin' ? `macosx_11_0_${machine}` : `manylinux_2_17_${machine}.manylinux2014_${machine}`
    const files = ['win_amd64', platform].map((tag) => `uv-${uvVersion}-py3-none-${tag}.whl`)
    const page = files.map((file) => `<a href="../../files/${file}#sha256=${sum}">${file}</a>`).join('\n')
    const listening = createServer((request, response) => {
      if (request.url === '/simple/uv/') response.end(page)
      else if (request.url === `/files/${files[1]}`) response.end(bytes)
      else response.writeHead(404).end()
    })
    server = listening
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve))
    return `http://127.0.0.1:${(listening.address() as AddressInfo).port}/simple`
  }

  const find = (env: Record<string, string>, configured?: string) =>
    findUv({ configured, tools: join(folder, 'tools'), env: { PATH: '/nonexistent', ...env }, python }, signal, ignore)

  it('is the configured one, before that on the path', async () => {
    const configured = join(folder, 'my-uv')
    const onPath = join(folder, 'uv')
    for (const file of [configured, onPath]) {
      await writeFile(file, '#!/bin/sh\n')
      await chmod(file, 0o755)
    }
    expect(await find({ PATH: folder }, configured)).toEqual({ path: configured })
    expect(await find({ PATH: folder })).toEqual({ path: onPath })
  })

  it('is fetched once from the package index when pip is not there', async () => {
    const env = { PIP_INDEX_URL: await index(), NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' }
    const [one, other] = await Promise.all([find(env), find(env)])
    expect(one).toEqual({ path: join(folder, 'tools', `uv-${uvVersion}`, 'uv') })
    expect(other).toEqual(one)
    if ('path' in one) expect(execFileSync(one.path, { encoding: 'utf8' })).toBe('a fake uv\n')
    server?.close()
    expect(await find({})).toEqual(one)
    expect((await readdir(join(folder, 'tools'))).filter((name) => name.startsWith('.'))).toEqual([])
  })

  it('is not taken when its hash is wrong', async () => {
    const env = { PIP_INDEX_URL: await index('0'.repeat(64)), NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' }
    expect(await find(env)).toEqual({ problem: expect.stringContaining('hash') })
  })

  it('is none, with the reason, where it can not be had', async () => {
    expect(await find({ PIP_INDEX_URL: 'http://127.0.0.1:1/simple', NO_PROXY: '127.0.0.1' })).toEqual({
      problem: expect.stringMatching(/refused/i),
    })
  })
})
