import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Missing } from '../comparison.ts'
import { findProgram, freePort, startProgram } from '../programs.ts'

/** FastAPI on uvicorn with uvloop and httptools, one process, as its authors recommend it for speed. */
export interface FastApi {
  readonly url: string
  readonly pid: number
  stop(): Promise<void>
}

const run = promisify(execFile)
const requirements = join(import.meta.dirname, 'requirements.txt')

export async function startFastApi(say: (text: string) => void): Promise<FastApi> {
  const python = await environment(say)
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const options = ['--loop', 'uvloop', '--http', 'httptools', '--no-access-log', '--log-level', 'warning']
  const program = await startProgram(
    python,
    ['-m', 'uvicorn', 'fastapi_app:app', '--app-dir', import.meta.dirname, '--port', String(port), ...options],
    { ready: () => answersAnything(url) },
  )
  return { url, pid: program.pid, stop: () => program.stop() }
}

function answersAnything(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    () => false,
  )
}

/** Made once per interpreter and list of versions, in the user's cache. */
async function environment(say: (text: string) => void): Promise<string> {
  const python = findProgram('python3')
  if (python === undefined) throw new Missing('there is no python3')
  const { stdout: version } = await run(python, ['--version'])
  const key = createHash('sha256').update(version).update(readFileSync(requirements)).digest('hex').slice(0, 12)
  const cache = join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'berth', 'bench')
  const folder = join(cache, `fastapi-${key}`)
  const interpreter = join(folder, 'bin', 'python')
  if (existsSync(join(folder, 'complete'))) return interpreter
  say('installing FastAPI and uvicorn (once)')
  await mkdir(cache, { recursive: true })
  await rm(folder, { recursive: true, force: true })
  try {
    await run(python, ['-m', 'venv', folder])
    await run(interpreter, ['-m', 'pip', 'install', '--quiet', '-r', requirements])
  } catch (error) {
    throw new Missing(`FastAPI can't be installed: ${error instanceof Error ? error.message : String(error)}`)
  }
  await mkdir(join(folder, 'complete'))
  return interpreter
}
