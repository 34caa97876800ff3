import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Whether an enabled list (`enabled-<key>.json` in the modules folder) has an entry whose code lies in the folder. */
export async function enabledReactoryModule(modulesFolder: string, folder: string): Promise<boolean> {
  const names = await readdir(modulesFolder).catch(() => [])
  for (const name of names.filter((file) => /^enabled-.+\.json$/.test(file))) {
    const text = await readFile(join(modulesFolder, name), 'utf8').catch(() => '')
    const entries = text.matchAll(/"moduleEntry"\s*:\s*"(?:\.\/)?([^"/]+)\//g)
    if ([...entries].some((match) => match[1] === folder)) return true
  }
  return false
}
