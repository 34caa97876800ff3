import { execFile, spawn } from 'node:child_process'
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

/** An example module in a Python environment of its own, without Berth: what its author would have at hand. */
export interface InstalledModule {
  /** The yields or the error of each request, from one process. */
  infer(model: string, requests: readonly object[]): Promise<readonly Answer[]>
  /** Bytes of what was installed, pip itself left out. */
  installedBytes(): Promise<number>
  remove(): Promise<void>
}

export interface Answer {
  readonly yields?: readonly { readonly text?: string; readonly extra?: Record<string, unknown> }[]
  readonly error?: string
}

/** Limits of a child process, below those of the test that waits for it. */
const installMs = 280_000
const inferMs = 100_000

const run = promisify(execFile)
const driver = path.join(import.meta.dirname, 'driver')
const modules = path.join(import.meta.dirname, '../../../modules')

export async function installModule(name: string): Promise<InstalledModule> {
  const folder = path.join(modules, name)
  const environment = await mkdtemp(path.join(tmpdir(), `berth-module-${name}-`))
  const python = path.join(environment, 'bin/python')
  const env = { ...process.env, PYTHONPATH: driver, PYTHONDONTWRITEBYTECODE: '1' }
  const remove = () => rm(environment, { recursive: true, force: true })
  try {
    await run('python3', ['-m', 'venv', environment], { timeout: installMs })
    await run(python, [path.join(driver, 'install.py'), folder], { env, cwd: folder, timeout: installMs })
  } catch (error) {
    await remove()
    throw error
  }
  return {
    remove,
    infer: (model, requests) =>
      new Promise((resolve, reject) => {
        const child = spawn(python, [path.join(driver, 'drive.py'), folder], {
          env,
          cwd: environment,
          timeout: inferMs,
        })
        const output = { out: '', err: '' }
        child.stdout.setEncoding('utf8').on('data', (text: string) => (output.out += text))
        child.stderr.setEncoding('utf8').on('data', (text: string) => (output.err += text))
        child.on('error', reject)
        child.on('close', (code) => {
          if (code === 0) resolve(JSON.parse(output.out) as Answer[])
          else reject(new Error(`${name} ended with ${code}: ${output.err}`))
        })
        child.stdin.end(JSON.stringify({ model, requests }))
      }),
    async installedBytes() {
      let bytes = 0
      for (const entry of await readdir(path.join(environment, 'lib'), { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || /\/site-packages\/(pip|setuptools)[/-]/.test(`${entry.parentPath}/`)) continue
        bytes += (await stat(path.join(entry.parentPath, entry.name))).size
      }
      return bytes
    },
  }
}

/** The user's message that carries these items. */
export function conversation(...content: readonly object[]): object {
  return { conversation: [{ role: 'user', content }] }
}
