import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** Images that the Docker tests need, built once from test/testdata/docker and kept under names that say their content. */
const run = promisify(execFile)
const folder = join(import.meta.dirname, '../testdata/docker')

/** A runner and an installer that do what a test tells them, in the place of Berth's own. */
export const testRunnerImage = (): Promise<string> => build('runner')

/** An image that speaks the runner protocol, with a user of its own. */
export const testProtocolImage = (): Promise<string> => build('protocol')

async function build(name: string): Promise<string> {
  const context = join(folder, name)
  const tag = `berth-test/${name}:${await contentHash(context)}`
  const present = await run('docker', ['image', 'inspect', tag]).then(
    () => true,
    () => false,
  )
  if (!present) await run('docker', ['build', '--quiet', '--tag', tag, '--label', 'dev.berth.test=1', context])
  return tag
}

async function contentHash(context: string): Promise<string> {
  const hash = createHash('sha256')
  const files = (await readdir(context, { recursive: true, withFileTypes: true })).filter((file) => file.isFile())
  for (const path of files.map((file) => join(file.parentPath, file.name)).sort()) {
    hash.update(path.slice(context.length)).update(await readFile(path))
  }
  return hash.digest('hex').slice(0, 16)
}
