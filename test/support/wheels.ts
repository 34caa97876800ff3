import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)
const backend = join(import.meta.dirname, '../testdata/modules-e2e/packages/tinyfolder/backend.py')

export interface WheelOptions {
  readonly name: string
  readonly version?: string
  /** Requirements of the wheel itself, such as `other==1.0`. */
  readonly requires?: readonly string[]
  /** Zeros in it: a small file that is large when it is installed. */
  readonly paddingBytes?: number
}

/** Writes a wheel that holds one Python module of its own name into the folder; answers its file name. */
export async function makeWheel(folder: string, wheel: WheelOptions): Promise<string> {
  await mkdir(folder, { recursive: true })
  const { name, version = '1.0', requires = [], paddingBytes = 0 } = wheel
  const { stdout } = await run('python3', [backend, folder, name, version, String(paddingBytes), ...requires])
  return stdout.trim()
}
