import { access, constants, statfs } from 'node:fs/promises'
import path from 'node:path'
import { megabytes } from '../output.ts'
import type { Check } from './check.ts'

const tooLittle = 500e6
const little = 5e9

/** Can Berth write its data folder, and is there room for environments? */
export async function checkData(folder: string): Promise<Check> {
  const name = 'data folder'
  const existing = await nearestExisting(folder)
  try {
    await access(existing, constants.W_OK | constants.X_OK)
  } catch {
    return {
      name,
      level: 'fail',
      message: `${existing} can not be written by this user`,
      remedy: 'Change its owner, or name another data folder with BERTH_DATA.',
    }
  }
  const { bavail, bsize } = await statfs(existing)
  const free = bavail * bsize
  const message = `${folder}, ${megabytes(free)} free`
  if (free >= little) return { name, level: 'ok', message }
  return {
    name,
    level: free < tooLittle ? 'fail' : 'warn',
    message: `${message}: environments of modules take from 50 MB to many GB`,
    remedy:
      'Make room (`berth environments prune` removes unused environments), or name another folder with BERTH_DATA.',
  }
}

async function nearestExisting(folder: string): Promise<string> {
  try {
    await access(folder)
    return folder
  } catch {
    const parent = path.dirname(folder)
    return parent === folder ? folder : nearestExisting(parent)
  }
}
