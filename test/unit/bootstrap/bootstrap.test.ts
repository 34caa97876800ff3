import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

/** The bootstrap in a small repository of its own, with an npm that notes how it was called. */
const run = promisify(execFile)
const bootstrap = join(import.meta.dirname, '../../../orchestrator/bootstrap.mjs')

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'berth-bootstrap-'))
  for (const name of ['orchestrator/cli', 'bin', 'cache']) await mkdir(join(folder, name), { recursive: true })
  await copyFile(bootstrap, join(folder, 'orchestrator/bootstrap.mjs'))
  await writeFile(join(folder, 'orchestrator/cli/berth.ts'), 'console.log(JSON.stringify(process.argv.slice(2)))\n')
  await writeFile(join(folder, 'package-lock.json'), '{"lockfileVersion":3}')
  await npmThat('mkdir -p node_modules; echo "installed $*"')
})

afterEach(() => rm(folder, { recursive: true, force: true }))

/** Its calls go to `calls`; what it prints must not reach standard output. */
async function npmThat(does: string): Promise<void> {
  const npm = join(folder, 'bin/npm')
  await writeFile(npm, `#!/bin/sh\necho "$*" >> "${join(folder, 'calls')}"\n${does}\n`)
  await chmod(npm, 0o755)
}

const calls = (): Promise<string> => readFile(join(folder, 'calls'), 'utf8').catch(() => '')

function berth(...args: readonly string[]) {
  const env = { ...process.env, PATH: `${join(folder, 'bin')}:${process.env.PATH}`, BERTH_CACHE: join(folder, 'cache') }
  return run(process.execPath, [join(folder, 'orchestrator/bootstrap.mjs'), 'berth', ...args], {
    env: { ...env, npm_execpath: '' },
  })
}

describe('the bootstrap', () => {
  it('installs what is locked at the first run, without development tools, and prints none of it to stdout', async () => {
    const { stdout } = await berth('ps', '--json')
    expect(stdout).toBe('["ps","--json"]\n')
    expect(await calls()).toMatch(/^ci .*--ignore-scripts.*--omit=dev\n$/)
  })

  it('fetches nothing at the second run', async () => {
    await berth('ps')
    await berth('ps')
    expect((await calls()).split('\n').filter((line) => line !== '')).toHaveLength(1)
  })

  it('installs anew when the lock file has changed', async () => {
    await berth('ps')
    await writeFile(join(folder, 'package-lock.json'), '{"lockfileVersion":3,"name":"other"}')
    await berth('ps')
    expect((await calls()).split('\n').filter((line) => line !== '')).toHaveLength(2)
  })

  it('says so and ends with 1 when the installation fails, and tries again at the next run', async () => {
    await npmThat('echo "no network" >&2; exit 7')
    await expect(berth('ps')).rejects.toMatchObject({ code: 1, stderr: expect.stringContaining('exit code 7') })
    await npmThat('mkdir -p node_modules')
    expect((await berth('ps')).stdout).toBe('["ps"]\n')
  })

  it('takes over the lock of a set-up that was killed', async () => {
    const key = createHash('sha256').update(folder).digest('hex').slice(0, 16)
    // No process has this id: it is above every system's limit.
    await writeFile(join(folder, 'cache', `install-${key}.lock`), '99999999')
    expect((await berth('ps')).stdout).toBe('["ps"]\n')
  })

  it('passes on the exit code of the command', async () => {
    await writeFile(join(folder, 'orchestrator/cli/berth.ts'), 'process.exit(2)\n')
    await expect(berth('nonsense')).rejects.toMatchObject({ code: 2 })
  })
})
