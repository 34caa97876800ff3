import { spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { lockFile } from '../../../../orchestrator/engines/process/exclusive-lock.ts'

describe('the lock between processes', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-lock-'))
  })
  afterEach(async () => {
    await rm(folder, { recursive: true, force: true })
  })

  it('has one holder at a time', async () => {
    const path = join(folder, 'lock')
    const release = await lockFile(path, AbortSignal.timeout(10_000))
    const order: string[] = []
    const second = lockFile(path, AbortSignal.timeout(10_000)).then((releaseSecond) => {
      order.push('second')
      releaseSecond()
    })
    await expect(lockFile(path, AbortSignal.timeout(150))).rejects.toThrow()
    order.push('first')
    release()
    await second
    expect(order).toEqual(['first', 'second'])
  })

  it('is given back by the death of its holder', async () => {
    const path = join(folder, 'lock')
    const module = new URL('../../../../orchestrator/engines/process/exclusive-lock.ts', import.meta.url).href
    const script = `
      const { lockFile } = await import(${JSON.stringify(module)})
      await lockFile(${JSON.stringify(path)}, AbortSignal.timeout(10_000))
      console.log('held')
      setInterval(() => undefined, 60_000)`
    const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      for await (const line of createInterface({ input: holder.stdout })) if (line === 'held') break
      await expect(lockFile(path, AbortSignal.timeout(150))).rejects.toThrow()
    } finally {
      holder.kill('SIGKILL')
    }
    const release = await lockFile(path, AbortSignal.timeout(10_000))
    release()
  })
})
