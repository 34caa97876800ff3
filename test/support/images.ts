import { execFile, execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { tempDirectory } from './temp-folder.ts'

const run = promisify(execFile)

/** Images that a test file makes; `remove` takes all of them away again. */
export interface TestImages {
  /** Builds from the files, which have a Dockerfile among them; answers the reference. */
  build(name: string, files: Readonly<Record<string, string>>): Promise<string>
  /** An image that holds nothing, for another architecture, with these labels. */
  importEmpty(name: string, platform: string, labels: Readonly<Record<string, string>>): string
  remove(): void
}

export function createTestImages(): TestImages {
  const tag = `e2e-${randomBytes(4).toString('hex')}`
  const made: string[] = []
  const named = (name: string): string => {
    const reference = `berth-test/${name}:${tag}`
    made.push(reference)
    return reference
  }
  return {
    async build(name, files) {
      const context = tempDirectory(files)
      const reference = named(name)
      try {
        await run('docker', ['build', '--quiet', '--tag', reference, '--label', 'dev.berth.test=1', context.folder])
      } finally {
        context.remove()
      }
      return reference
    },
    importEmpty(name, platform, labels) {
      const reference = named(name)
      const changes = Object.entries(labels).flatMap(([key, value]) => [
        '--change',
        `LABEL ${key}=${JSON.stringify(value)}`,
      ])
      const input = execFileSync('tar', ['--create', '--file', '-', '--files-from', '/dev/null'])
      execFileSync('docker', ['import', '--platform', platform, ...changes, '-', reference], { input, stdio: 'pipe' })
      return reference
    },
    remove() {
      if (made.length > 0) execFileSync('docker', ['image', 'rm', '--force', ...made], { stdio: 'pipe' })
    },
  }
}
