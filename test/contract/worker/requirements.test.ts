import { execFile } from 'node:child_process'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { modulesFolder } from './worker-process.ts'

const program = resolve('module-runner/python/berth_worker/run_requirements.py')
const folder = join(modulesFolder, 'requirements')
let temporary: string

beforeEach(async () => {
  temporary = await mkdtemp(join(tmpdir(), 'berth-requirements-'))
})

afterEach(async () => {
  await rm(temporary, { recursive: true, force: true })
})

interface Run {
  readonly code: number
  readonly lines: readonly string[]
}

/** Runs a requirements.py as the installer does. */
function run(file: string, extra: readonly string[] = [], env: Record<string, string> = {}): Promise<Run> {
  return new Promise((done) => {
    const { BERTH_UV: _, ...inherited } = process.env
    const options = { cwd: folder, env: { ...inherited, MARK: 'mark', ...env } }
    execFile('python3', ['-B', program, join(folder, file), 'NVIDIA', ...extra], options, (error, stdout) => {
      const code = error === null ? 0 : Number(error.code)
      done({ code, lines: stdout.trimEnd().split('\n') })
    })
  })
}

/** A stand-in for uv that tells how it was called and exits as asked. */
async function fakeUv(status: number): Promise<string> {
  const path = join(temporary, 'uv')
  await writeFile(path, `#!/bin/sh\necho "uv got $*; $CMAKE_ARGS $N"\necho "last words" >&2\nexit ${status}\n`)
  await chmod(path, 0o755)
  return path
}

describe('requirements.py', () => {
  it.each([
    ['none.py', 'none NVIDIA'],
    ['one.py', 'one None'],
    ['two.py', "two None ['--extra', 'x']"],
    ['four.py', "four True bool mark ['--extra', 'x'] False"],
  ])('%s: Install gets as many arguments as it takes', async (file, line) => {
    const { code, lines } = await run(file, ['--extra', 'x'])
    expect(lines.at(-1)).toBe(line)
    expect(code).toBe(0)
  })

  it.each([
    ['absent.py', 'absent.py defines no function `Install`'],
    ['five.py', '`Install` needs 5 arguments'],
    ['not-there.py', 'there is no not-there.py'],
    ['fails.py', 'fails.py failed: ValueError: no network'],
    ['leaves.py', 'leaves.py failed: SystemExit: 7'],
    ['leaves-early.py', 'leaves-early.py ended by sys.exit() before its `Install` could be called'],
  ])('%s: the last line says why it failed', async (file, reason) => {
    const { code, lines } = await run(file)
    expect(lines.at(-1)).toContain(reason)
    expect(code).toBe(1)
  })

  it('leaves-content.py: Install may end by sys.exit(0)', async () => {
    expect(await run('leaves-content.py')).toEqual({ code: 0, lines: ['installed'] })
  })

  it('installs with uv into the interpreter that runs it, its output passed on', async () => {
    const { code, lines } = await run('packages.py', ['--index-url=i'], { BERTH_UV: await fakeUv(0) })
    const [command, first, , second] = lines
    expect(command).toBe('command uv pip')
    expect(first).toMatch(/^uv got pip install --python \/\S+ --index-url=i a b; -DX=1 2$/)
    expect(second).toMatch(/^uv got pip install --python \/\S+ c; /)
    expect(lines.at(-1)).toBe('still here None')
    expect(code).toBe(0)
  })

  it('shows the last lines of an installer that failed', async () => {
    const { code, lines } = await run('packages.py', [], { BERTH_UV: await fakeUv(1) })
    expect(code).toBe(1)
    expect(lines.at(-1)).toBe('last words')
    expect(lines.join('\n')).toContain('failed with exit status 1')
  })

  it('takes pip when uv does not know what is asked', async () => {
    const { code, lines } = await run('packages.py', ['--no-such-option'], { BERTH_UV: await fakeUv(2) })
    expect(lines).toContain('uv could not do this; trying pip')
    expect(lines.join('\n')).toContain('no such option: --no-such-option')
    expect(code).toBe(1)
  })
})
