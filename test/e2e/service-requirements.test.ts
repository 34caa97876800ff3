import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { cp, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { extraOf } from '../support/answers.ts'
import { docker } from '../support/docker-cleanup.ts'
import { engines } from '../support/engines.ts'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'
import { uvVariables } from '../support/test-uv.ts'
import { makeWheel } from '../support/wheels.ts'

/** The rows about requirements of the table "Service modules" in docs/modules.md. Everything installed is local. */

/** Answers with the versions of what it could import. */
const service = (...names: string[]) => `
import importlib

def SERVICE_LOAD_MODELS(Models):
    pass

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    found = {}
    for name in ${JSON.stringify(names)}:
        try:
            found[name] = importlib.import_module(name).VERSION
        except ImportError:
            found[name] = None
    yield {"extra": found}
`

const installs = (signature: string, note: string) => `
from Utilities.install_requirements import InstallPackage

def Install(${signature}):
    print("called with", ${note})
    InstallPackage(["./wheels/tinywheel-1.0-py3-none-any.whl"], PIPOptions=["--no-index"])
`

const modules = {
  listed: {
    'service.py': service('tinywheel', 'tinyfolder', 'tinymarked', 'tinyskipped'),
    'requirements.txt': [
      '# a comment',
      '',
      '--no-index',
      '-r more/included.txt  # with a comment behind it',
      'tinyfolder @ file:./tinyfolder ; python_version > "3.0"',
      'tinyskipped==9.9 ; python_version < "3.0"',
    ].join('\n'),
    'more/included.txt': './wheels/tinywheel-1.0-py3-none-any.whl\n--find-links wheels\ntinymarked\\\n==1.0\n',
  },
  one: { 'service.py': service('tinywheel'), 'requirements.py': installs('Wanted', '"one", Wanted') },
  two: { 'service.py': service('tinywheel'), 'requirements.py': installs('Wanted, Args', '"two", Wanted, Args') },
  four: {
    'service.py': service('tinywheel'),
    'requirements.py': installs('GPU, Vulkan, Env, Args', '"four", GPU.name, Vulkan, "PATH" in Env, Args'),
  },
  both: {
    'service.py': service('tinywheel'),
    'requirements.py': installs('Wanted', '"the program"'),
    'requirements.txt': 'never-to-be-read===broken line\n',
  },
  added: {
    'service.py': service('tinymarked'),
    'module.yaml': 'requirements: ["--no-index", "./wheels/tinymarked-1.0-py3-none-any.whl"]\n',
  },
}

/** Where containers reach this machine. */
async function bridgeAddress(): Promise<string> {
  return await docker('network', 'inspect', '--format', '{{(index .IPAM.Config 0).Gateway}}', 'bridge')
}

describe.each(engines)('requirements on the %s engine', (engine) => {
  let berth: TestBerth

  beforeAll(async () => {
    berth = await startBerth({ engine, env: await uvVariables() })
    const parts = join(berth.folder, 'parts')
    await makeWheel(join(parts, 'wheels'), { name: 'tinywheel' })
    await makeWheel(join(parts, 'wheels'), { name: 'tinymarked' })
    await cp(join(import.meta.dirname, '../testdata/modules-e2e/packages'), parts, { recursive: true })
    // Beside the modules folder first: each comes in at once, with all that it needs.
    for (const [id, files] of Object.entries(modules)) {
      await cp(parts, join(berth.modulesFolder, id), { recursive: true })
      await berth.writeModule(id, files)
    }
  })
  afterAll(() => berth?.close())

  const installed = (id: string) =>
    berth.until(id, ({ environment, error }) => environment?.state === 'ready' || error !== undefined, 120_000)
  const said = async (id: string) =>
    (await berth.logs(id)).filter(({ source }) => source === 'installer').map(({ message }) => message)

  it('of requirements.txt: comments, -r, markers, continued lines, a local wheel and a local folder', async () => {
    expect(await installed('listed')).toMatchObject({ environment: { state: 'ready', bytes: expect.any(Number) } })
    expect(await extraOf(berth, 'listed', {})).toEqual({
      tinywheel: '1.0',
      tinyfolder: '1.0',
      tinymarked: '1.0',
      tinyskipped: null,
    })
  })

  it('of requirements.txt by hash and by URL', async () => {
    const wheel = await readFile(join(berth.folder, 'parts/wheels/tinywheel-1.0-py3-none-any.whl'))
    const sha256 = createHash('sha256').update(wheel).digest('hex')
    const served: string[] = []
    const server = createServer((request, response) => {
      served.push(request.url ?? '')
      response.end(wheel)
    })
    server.listen(0, '0.0.0.0')
    await once(server, 'listening')
    try {
      const { port } = server.address() as AddressInfo
      const url = `http://${engine === 'docker' ? await bridgeAddress() : '127.0.0.1'}:${port}`
      const hashed = (hash: string) => `--no-index\n--find-links wheels\ntinywheel==1.0 \\\n    --hash=sha256:${hash}\n`
      const files: Readonly<Record<string, string>> = {
        hashed: hashed(sha256),
        tampered: hashed(createHash('sha256').update('other').digest('hex')),
        linked: `tinywheel @ ${url}/tinywheel-1.0-py3-none-any.whl#sha256=${sha256}\n`,
      }
      for (const [id, requirements] of Object.entries(files)) {
        await cp(join(berth.folder, 'parts'), join(berth.modulesFolder, id), { recursive: true })
        await berth.writeModule(id, { 'requirements.txt': requirements, 'service.py': service('tinywheel') })
      }
      for (const id of ['hashed', 'linked']) {
        expect((await installed(id)).error, id).toBeUndefined()
        expect(await extraOf(berth, id, {})).toEqual({ tinywheel: '1.0' })
      }
      expect(served).toContain('/tinywheel-1.0-py3-none-any.whl')
      const { error } = await installed('tampered')
      expect(error).toMatchObject({ code: 'REQUIREMENTS_FAILED', details: { module: 'tampered' } })
      expect(JSON.stringify(error)).toMatch(/hash/i)
    } finally {
      server.close()
    }
  })

  it.each([
    ['one', 1, /called with one None/],
    ['two', 2, /called with two None \[/],
    ['four', 4, /called with four NO_GPU (True|False) True \[/],
  ])('of requirements.py (%s) whose Install takes %i arguments', async (id, _count, line) => {
    await installed(id)
    expect(await extraOf(berth, id, {})).toEqual({ tinywheel: '1.0' })
    expect(await said(id)).toContainEqual(expect.stringMatching(line))
  })

  it('of requirements.py rather than of requirements.txt', async () => {
    await installed('both')
    expect(await extraOf(berth, 'both', {})).toEqual({ tinywheel: '1.0' })
  })

  it('of module.yaml', async () => {
    await installed('added')
    expect(await extraOf(berth, 'added', {})).toEqual({ tinymarked: '1.0' })
  })

  it('once for what is the same: another module with the same requirements installs nothing', async () => {
    await cp(join(berth.modulesFolder, 'added'), join(berth.modulesFolder, 'same'), { recursive: true })
    const same = await installed('same')
    expect(same.environment?.key).toBe((await berth.module('added')).environment?.key)
    expect(await said('same')).not.toContainEqual(expect.stringContaining('tinymarked'))
    expect(await extraOf(berth, 'same', {})).toEqual({ tinymarked: '1.0' })
  })
})
