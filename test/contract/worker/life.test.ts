import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { findPythons } from './pythons.ts'
import { eventually, textOf, workers } from './support.ts'

const start = workers()

describe('life of a worker', () => {
  it.each(findPythons())('imports, loads, streams and quits on Python $version', async ({ path, version }) => {
    const worker = await start({ module: 'yields', python: path })
    expect(worker.hello.python).toContain(version)
    expect(await worker.status()).toEqual({ state: 'imported' })
    expect(await worker.load('{"m":{}}')).toMatchObject({ ok: { loaded: ['m'] } })
    expect(textOf((await worker.infer('m', { do: 'texts' })).chunks)).toBe('one two')
    expect((await worker.infer('m', { do: 'files', conversation: [] })).end.conversation).toHaveLength(1)
    expect((await worker.infer('m', { do: 'not_a_number' })).end.error?.message).toContain('NaN at extra.scores[1]')
    expect((await worker.infer('m', { do: 'exits' })).end.error?.message).toContain('sys.exit(3)')
    expect(await worker.quit()).toEqual({ code: 0, signal: null })
    await eventually(() => expect(worker.printed).toContain('offloaded m'))
  })

  it('ignores SIGTERM and SIGINT: the runner says when it ends', async () => {
    const worker = await start({ module: 'yields' })
    await worker.status()
    worker.process.kill('SIGTERM')
    worker.process.kill('SIGINT')
    expect((await worker.infer('m', { do: 'texts' })).end).toEqual({ done: true })
    expect(await worker.quit()).toEqual({ code: 0, signal: null })
  })

  it('lets its runner go on, where both want the processor', async () => {
    const worker = await start({ module: 'yields' })
    const stat = readFileSync(`/proc/${worker.process.pid}/stat`, 'utf8')
    // Field 41 of proc(5): the scheduling policy; 3 is SCHED_BATCH.
    expect(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[38]).toBe('3')
  })

  it('offloads and ends when the control connection ends', async () => {
    const worker = await start({ module: 'yields' })
    await worker.load('{"m":{}}')
    worker.control.socket.destroy()
    expect(await worker.exited).toEqual({ code: 1, signal: null })
    await eventually(() => expect(worker.printed).toContain('offloaded m'))
  })

  it.skipIf(process.platform !== 'linux')(
    'dies with a runner that is killed, even when the module holds on',
    async () => {
      const folder = await mkdtemp(join(tmpdir(), 'berth-runner-'))
      const runner = spawn(process.execPath, [fileURLToPath(new URL('dying-runner.ts', import.meta.url))], {
        env: { ...process.env, TMPDIR: folder },
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      try {
        const [line] = (await once(runner.stdout.setEncoding('utf8'), 'data')) as [string]
        const pid = Number(line)
        expect(isAlive(pid)).toBe(true)
        runner.kill('SIGKILL')
        await eventually(() => expect(isAlive(pid)).toBe(false))
      } finally {
        runner.kill('SIGKILL')
        await rm(folder, { recursive: true, force: true })
      }
    },
  )

  it('ends within its limit when the control connection ends during a load that never returns', async () => {
    const worker = await start({ module: 'loads', callMs: 200 })
    void worker.load('{"m":{"do":"hang"}}')
    await eventually(() => expect(worker.printed).toContain('hanging'))
    worker.control.socket.destroy()
    expect(await worker.exited).toEqual({ code: 1, signal: null })
  })
})

/** A process that has ended but is not reaped yet counts as gone. */
function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
