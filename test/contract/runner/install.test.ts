import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { type EnvironmentMarker, type InstallOrder, installerNodeFlags } from '../../../module-runner/protocol.ts'
import { findPython } from '../../../orchestrator/engines/process/python.ts'
import { findUv } from '../../../orchestrator/engines/process/uv.ts'
import { isAlive } from '../../support/processes.ts'
import { tempFolder, writeFiles } from '../../support/temp-folder.ts'
import { patience } from './support.ts'

/** The installer as the engines run it, with packages that lie beside the requirements: no network is asked. */
const program = join(import.meta.dirname, '../../../module-runner/server/install.ts')
const env = variables(process.env)
const python = await findPython(env, undefined)
let uv = ''

beforeAll(async () => {
  const options = { configured: process.env.BERTH_UV, tools: join(homedir(), '.cache/berth/test-tools'), env, python }
  const found = await findUv(options, AbortSignal.timeout(240_000), () => {})
  if ('problem' in found) throw new Error(found.problem)
  uv = found.path
})

interface Installation {
  readonly folder: string
  readonly order: InstallOrder
  readonly env: Record<string, string>
}

function prepare(files: Record<string, string>, more: Partial<InstallOrder> = {}, extraEnv = {}): Installation {
  const root = tempFolder()
  const module = join(root, 'module')
  writeFiles(module, files)
  const folder = join(root, 'environment')
  const cache = join(root, 'cache')
  const order: InstallOrder = { key: 'key-1', folder, module, extra: [], gpu: 'NO_GPU', cache, ...more }
  const variables: Record<string, string> = { ...env, BERTH_UV: uv, UV_OFFLINE: '1', PIP_NO_INDEX: '1', ...extraEnv }
  return { folder, order, env: { ...variables, BERTH_INSTALL: JSON.stringify(order) } }
}

function install({ env, order }: Installation) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...installerNodeFlags, program], {
    env,
    encoding: 'utf8',
  })
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
  const lines: any[] = stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
  const marker = join(order.folder, 'environment.json')
  return {
    status,
    stderr,
    messages: lines.flatMap(({ message }) => (message === undefined ? [] : [String(message)])),
    progress: lines.flatMap(({ progress }) => (progress === undefined ? [] : [progress])),
    last: lines.at(-1),
    marker: existsSync(marker) ? (JSON.parse(readFileSync(marker, 'utf8')) as EnvironmentMarker) : undefined,
  }
}

function runs({ order }: Installation, code: string): string {
  const { python } = JSON.parse(readFileSync(join(order.folder, 'environment.json'), 'utf8')) as EnvironmentMarker
  return execFileSync(join(order.folder, python), ['-c', code], { encoding: 'utf8' }).trim()
}

/** A package `name` whose attribute `version` is its version. */
function wheel(folder: string, name: string, version = '1.0'): string {
  const file = `${name}-${version}-py3-none-any.whl`
  const info = `${name}-${version}.dist-info`
  const content = {
    [`${name}.py`]: `version = "${version}"\n`,
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    [`${info}/RECORD`]: '',
  }
  mkdirSync(folder, { recursive: true })
  const code =
    'import json,sys,zipfile\nwith zipfile.ZipFile(sys.argv[1],"w") as z:\n for n,c in json.loads(sys.argv[2]).items(): z.writestr(n,c)'
  execFileSync('python3', ['-c', code, join(folder, file), JSON.stringify(content)])
  return file
}

describe('requirements.txt', () => {
  it('is installed by uv, local wheels by relative path, comments, blank lines, -r and markers included', () => {
    const files = {
      'requirements.txt': [
        '# what it needs',
        '',
        './wheels/probe_a-1.0-py3-none-any.whl  # beside it',
        '-r more/others.txt',
        'never-there ; python_version < "3"',
      ].join('\n'),
      'more/others.txt': 'probe_c==2.0\n',
    }
    const found = (root: Installation) => ({ UV_FIND_LINKS: join(root.order.module, 'wheels') })
    const first = prepare(files, { file: 'requirements.txt', extra: ['./wheels/probe_b-1.5-py3-none-any.whl'] })
    const installation = { ...first, env: { ...first.env, ...found(first) } }
    for (const [name, version] of [
      ['probe_a', '1.0'],
      ['probe_b', '1.5'],
      ['probe_c', '2.0'],
    ] as const) {
      wheel(join(installation.order.module, 'wheels'), name, version)
    }
    const { status, marker, progress, stderr } = install(installation)
    expect([status, stderr]).toEqual([0, ''])
    expect(marker).toMatchObject({ key: 'key-1', installer: 'uv', pythonVersion: python?.version })
    expect(marker?.bytes).toBeGreaterThan(0)
    expect(progress.at(-1)).toEqual({ message: 'Installed', current: 3, total: 3 })
    const code = 'import probe_a, probe_b, probe_c; print(probe_a.version, probe_b.version, probe_c.version)'
    expect(runs(installation, code)).toBe('1.0 1.5 2.0')
  })

  it('is given to pip, where uv refuses it', () => {
    const refusing = join(tempFolder(), 'uv')
    writeFileSync(
      refusing,
      `#!/bin/sh\n[ "$1" = venv ] && exec ${uv} "$@"\necho "error: uv does not know this"\nexit 2\n`,
    )
    chmodSync(refusing, 0o755)
    const installation = prepare(
      { 'requirements.txt': './wheels/probe_a-1.0-py3-none-any.whl' },
      { file: 'requirements.txt' },
      { BERTH_UV: refusing },
    )
    wheel(join(installation.order.module, 'wheels'), 'probe_a')
    const { status, marker, messages } = install(installation)
    if (python?.canMakeEnvironments === true) {
      expect([status, marker?.installer]).toEqual([0, 'pip'])
      expect(messages).toContain('uv could not install these requirements; trying pip')
    } else expect(status).toBe(1)
  })

  it.skipIf(python?.canMakeEnvironments !== true)('is installed by pip, where there is no uv', () => {
    const path = (env.PATH ?? '')
      .split(delimiter)
      .filter((folder) => !existsSync(join(folder, 'uv')))
      .join(delimiter)
    const installation = prepare(
      { 'requirements.txt': './wheels/probe_a-1.0-py3-none-any.whl' },
      { file: 'requirements.txt' },
      { BERTH_UV: '', PATH: path },
    )
    wheel(join(installation.order.module, 'wheels'), 'probe_a')
    const { status, marker } = install(installation)
    expect([status, marker?.installer]).toEqual([0, 'pip'])
    expect(runs(installation, 'import probe_a; print(probe_a.version)')).toBe('1.0')
  })

  it.each([
    ['NO_GPU', ['cpu', '']],
    ['NVIDIA', ['']],
  ] as const)('with PyTorch and gpu %s tries the backends %j', (gpu, backends) => {
    const folder = tempFolder()
    const wrapper = join(folder, 'uv')
    const script = [
      '#!/bin/sh',
      `[ "$1" = venv ] || echo "[$UV_TORCH_BACKEND]" >>${folder}/tried`,
      '[ "$1" = pip ] && [ -n "$UV_TORCH_BACKEND" ] && { echo "error: its index is out of reach"; exit 2; }',
      `exec ${uv} "$@"`,
    ]
    writeFileSync(wrapper, script.join('\n'))
    chmodSync(wrapper, 0o755)
    const installation = prepare(
      { 'requirements.txt': './wheels/torch-1.0-py3-none-any.whl' },
      { file: 'requirements.txt', gpu },
      { BERTH_UV: wrapper },
    )
    wheel(join(installation.order.module, 'wheels'), 'torch')
    expect(install(installation).marker?.installer).toBe('uv')
    const tried = readFileSync(join(folder, 'tried'), 'utf8').trim().split('\n')
    expect(tried).toEqual(backends.map((backend) => `[${backend}]`))
  })

  it('that cannot be installed leaves an empty folder, and the last lines of what tried', () => {
    const installation = prepare(
      { 'requirements.txt': 'a-package-that-is-not-there==1.0\n' },
      { file: 'requirements.txt' },
    )
    const { status, last, messages } = install(installation)
    expect(status).toBe(1)
    expect(last.failure.message).toContain('a-package-that-is-not-there')
    expect(last.failure.lines.join('\n')).toContain('a-package-that-is-not-there')
    expect(messages.join('\n')).toContain('a-package-that-is-not-there')
    expect(readdirSync(installation.folder)).toEqual([])
  })
})

describe('requirements.py', () => {
  it('installs in the environment, by the shim and by pip, from the folder of the module', () => {
    const installation = prepare(
      {
        'requirements.py': [
          'import os',
          'from Utilities.install_requirements import InstallPackage',
          'def Install(_):',
          '    print("in", os.path.basename(os.getcwd()))',
          '    InstallPackage(["./wheels/probe_a-1.0-py3-none-any.whl"])',
        ].join('\n'),
      },
      { file: 'requirements.py', extra: ['./wheels/probe_b-1.0-py3-none-any.whl'] },
    )
    wheel(join(installation.order.module, 'wheels'), 'probe_a')
    wheel(join(installation.order.module, 'wheels'), 'probe_b')
    const { status, messages, marker, last } = install(installation)
    expect([status, last?.failure]).toEqual([0, undefined])
    expect(marker?.installer).toBe('uv')
    expect(messages).toContain('in module')
    expect(runs(installation, 'import probe_a, probe_b; print("both")')).toBe('both')
  })

  it('that fails is a failure with its last line', () => {
    const installation = prepare(
      { 'requirements.py': 'def Install(_):\n    raise ValueError("not today")\n' },
      { file: 'requirements.py' },
    )
    const { status, last } = install(installation)
    expect(status).toBe(1)
    expect(last.failure.message).toContain('not today')
    expect(last.failure.lines.join('\n')).toContain('Traceback')
    expect(readdirSync(installation.folder)).toEqual([])
  })

  it('without Install says so', () => {
    const installation = prepare({ 'requirements.py': '' }, { file: 'requirements.py' })
    expect(install(installation).last.failure.message).toContain('Install')
  })
})

describe('an environment', () => {
  const simple = () => {
    const installation = prepare(
      { 'requirements.txt': './wheels/probe_a-1.0-py3-none-any.whl' },
      { file: 'requirements.txt' },
    )
    wheel(join(installation.order.module, 'wheels'), 'probe_a')
    return installation
  }

  it('that is complete is left as it is', () => {
    const installation = simple()
    install(installation)
    const path = join(installation.folder, 'environment.json')
    const before = statSync(path).mtimeMs
    const { status, messages } = install({
      ...installation,
      env: { ...installation.env, PATH: '/nowhere', BERTH_UV: '' },
    })
    expect([status, messages]).toEqual([0, []])
    expect(statSync(path).mtimeMs).toBe(before)
  })

  it('that was half made, or made for another key, is made anew', () => {
    const installation = simple()
    for (const marker of [undefined, '{"key":"another"}', '{"key":']) {
      writeFiles(installation.folder, { 'venv/lib/old.py': 'old', ...(marker ? { 'environment.json': marker } : {}) })
      expect(install(installation).marker?.key).toBe('key-1')
      expect(existsSync(join(installation.folder, 'venv/lib/old.py'))).toBe(false)
      execFileSync('rm', ['-r', installation.folder])
    }
  })

  it('whose Python is not there tells which there are', () => {
    const installation = prepare({}, { python: '3.99' })
    const { status, last } = install(installation)
    expect(status).toBe(1)
    expect(last.failure.message).toContain('Python 3.99 is asked for')
    expect(last.failure.message).toContain(python?.version)
    expect(last.failure.message).toContain('`python` in module.yaml')
  })

  it('is not taken for complete, when its installer is killed', async () => {
    const installation = prepare(
      {
        'requirements.py':
          'import time\ndef Install(_):\n    print("going to sleep", flush=True)\n    time.sleep(600)\n',
      },
      { file: 'requirements.py' },
    )
    const child = spawn(process.execPath, [...installerNodeFlags, program], { env: installation.env, detached: true })
    onTestFinished(() => void child.kill('SIGKILL'))
    let text = ''
    child.stdout.on('data', (part) => {
      text += part
    })
    await vi.waitFor(() => expect(text).toContain('going to sleep'), patience)
    const { pid = 0 } = child
    process.kill(-pid, 'SIGKILL')
    await vi.waitFor(() => expect(isAlive(pid)).toBe(false), patience)
    expect(readdirSync(installation.folder)).toEqual(['venv'])

    writeFileSync(join(installation.order.module, 'requirements.py'), 'def Install(_):\n    pass\n')
    expect(install(installation).marker?.key).toBe('key-1')
  })

  it('whose installer is told to end leaves nothing running', async () => {
    const installation = prepare(
      {
        'requirements.py':
          'import os,time\ndef Install(_):\n    print("pid", os.getpid(), flush=True)\n    time.sleep(600)\n',
      },
      { file: 'requirements.py' },
    )
    const child = spawn(process.execPath, [...installerNodeFlags, program], { env: installation.env })
    onTestFinished(() => void child.kill('SIGKILL'))
    let text = ''
    child.stdout.on('data', (part) => {
      text += part
    })
    const pid = await vi.waitFor(() => {
      const found = /"pid (\d+)"/.exec(text)?.[1]
      if (found === undefined) throw new Error('it has not begun yet')
      return Number(found)
    }, patience)
    child.kill('SIGTERM')
    await vi.waitFor(() => expect([isAlive(pid), isAlive(child.pid ?? 0)]).toEqual([false, false]), patience)
  })
})

describe('an order that makes no sense', () => {
  it('is refused by name', () => {
    const installation = prepare({})
    const { status, last } = install({ ...installation, env: { ...installation.env, BERTH_INSTALL: '{"key":1}' } })
    expect(status).toBe(1)
    expect(last.failure.message).toContain('key, folder, module, gpu, cache, extra')
  })
})

function variables(all: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}
