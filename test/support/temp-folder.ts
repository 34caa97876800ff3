import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { onTestFinished } from 'vitest'

/** A folder of its own for the running test, with these files in it; removed when the test ends. */
export function tempFolder(files: Readonly<Record<string, string>> = {}): string {
  const { folder, remove } = tempDirectory(files)
  onTestFinished(remove)
  return folder
}

/** The same, for whoever removes it at another time. */
export function tempDirectory(files: Readonly<Record<string, string>> = {}): { folder: string; remove(): void } {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'berth-test-')))
  writeFiles(folder, files)
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Path below the folder -> content. */
export function writeFiles(folder: string, files: Readonly<Record<string, string>>): void {
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), content)
  }
}
