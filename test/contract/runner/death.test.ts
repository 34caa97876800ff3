import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { isAlive } from '../../support/processes.ts'
import { framesOf, inference, launch, patience, startLoaded, type TestRunner, textOf } from './support.ts'

const gone = (pid: number) => vi.waitFor(() => expect(isAlive(pid)).toBe(false), patience)

describe('a worker that dies in an inference', () => {
  it.each([
    ['exit', { exitCode: 7 }],
    ['segfault', { signal: 'SIGSEGV' }],
    ['kill', { signal: 'SIGKILL' }],
  ])('by %s ends the stream with an error that says so', async (die, details) => {
    const runner = await startLoaded({ module: 'dies' })
    const { status, frames } = await runner.infer('m', { chunks: 2, die })
    expect(status).toBe(200)
    expect(frames).toHaveLength(3)
    const { error } = frames[2]
    expect(error).toMatchObject({ code: 'WORKLOAD_EXITED', retryable: true, origin: 'module', details })
    expect(error.details.lines).toContain(`about to die: ${die}`)
    expect(error.message).toContain(die === 'exit' ? 'exit code 7' : String(Object.values(details)[0]))
  })

  it('before the first chunk is an error with a true status', async () => {
    const runner = await startLoaded({ module: 'dies' })
    const { status, json } = await runner.infer('m', { die: 'exit' })
    expect([status, json.error.code]).toEqual([502, 'WORKLOAD_EXITED'])
  })

  it('is replaced, and its models count as not loaded', async () => {
    const runner = await startLoaded({ module: 'dies' })
    const worker = runner.workerPid()
    await runner.infer('m', { die: 'segfault' })
    expect(await runner.until(({ state }) => state === 'idle')).toMatchObject({ models: [], workerRestarts: 1 })
    expect(runner.workerPid()).not.toBe(worker)
    expect((await runner.infer('m')).json.error).toMatchObject({ code: 'WORKLOAD_EXITED', retryable: true })
    await runner.load({ m: {} })
    expect((await runner.infer('m')).frames).toHaveLength(2)
  })

  it('takes every other inference with it, each with the reason', async () => {
    const runner = await startLoaded({ module: 'dies', models: { m: { max_simul_users: 5 } } })
    const forked = join(runner.data, 'forked')
    const others = [1, 2, 3].map(() => runner.open('POST', '/infer', inference({ chunks: 1_000_000 })).response)
    await Promise.all(others)
    await runner.infer('m', { fork: forked, die: 'exit' })
    for (const other of others) {
      const frames = framesOf(await textOf(await other))
      expect(frames.at(-1).error).toMatchObject({ code: 'WORKLOAD_EXITED', details: { exitCode: 7 } })
    }
    await gone(Number(readFileSync(forked, 'utf8')))
    await runner.until(({ inflight, state }) => inflight === 0 && state === 'idle')
  })
})

describe('a worker that dies again and again', () => {
  it('is left alone with its error, until a load asks for it', async () => {
    const runner = await launch({ module: 'dies', env: { PYTHONUNBUFFERED: '1' } })
    await runner.until(({ state }) => state === 'idle')
    const folder = join(runner.data, '..')
    writeFileSync(join(folder, 'die-at-import'), '')
    await runner.infer('m', { die: 'exit' })
    const { error } = await runner.until(({ state }) => state === 'failed')
    expect(error).toMatchObject({ code: 'WORKLOAD_EXITED', details: { exitCode: 5 } })
    expect(error?.message).toContain('times in a row')
    expect((await runner.load({ m: {} })).json.error).toMatchObject({ code: 'WORKLOAD_EXITED' })
    expect((await runner.infer('m')).json.error).toMatchObject({ code: 'WORKLOAD_EXITED' })

    rmSync(join(folder, 'die-at-import'))
    await vi.waitFor(async () => expect((await runner.load({ m: {} })).json).toEqual({ loaded: ['m'] }), patience)
    expect((await runner.infer('m')).frames).toHaveLength(2)
  })

  it('fails the load that it dies in', async () => {
    const runner = await launch({ module: 'dies' })
    const { status, json } = await vi.waitFor(() => runner.load({ m: { die: 'exit' } }), patience)
    expect([status, json.error.code, json.error.details.exitCode]).toEqual([502, 'WORKLOAD_EXITED', 7])
    await runner.until(({ state }) => state === 'idle')
    expect((await runner.load({ m: {} })).json).toEqual({ loaded: ['m'] })
  })
})

describe('the end of the runner', () => {
  /** The module, a process that it forked, and the socket. */
  async function withFork(runner: TestRunner): Promise<readonly number[]> {
    const forked = join(runner.data, 'forked')
    await runner.infer('m', { fork: forked })
    await vi.waitFor(() => expect(existsSync(forked)).toBe(true), patience)
    return [runner.workerPid(), Number(readFileSync(forked, 'utf8'))]
  }

  it('by SIGTERM lets what runs finish, refuses what comes, offloads, and is 0', async () => {
    const runner = await startLoaded({ module: 'basic' })
    const worker = runner.workerPid()
    const [started, then] = ['started', 'then'].map((name) => join(runner.data, name))
    const running = runner.infer('m', { chunks: 2, started, then })
    await vi.waitFor(() => expect(existsSync(started ?? '')).toBe(true), patience)
    runner.kill('SIGTERM')
    await vi.waitFor(async () => expect((await runner.infer('m')).json?.error?.code).toBe('SHUTTING_DOWN'), patience)
    expect((await runner.health()).inflight).toBe(1)
    writeFileSync(then ?? '', '')
    expect((await running).frames).toHaveLength(3)
    expect(await runner.exited).toBe(0)
    expect(isAlive(worker)).toBe(false)
    expect(runner.logs.map(({ message }) => message)).toContain("offloading ['m']")
  })

  it('by SIGTERM waits no longer than its grace for an inference', async () => {
    const runner = await startLoaded({ module: 'basic', drainMs: 200, callMs: 2_000 })
    const response = await runner.open('POST', '/infer', inference({ chunks: 1_000_000, pause: 0.05 })).response
    const text = textOf(response)
    runner.kill('SIGTERM')
    expect(await runner.exited).toBe(0)
    expect(framesOf(await text).at(-1).error).toMatchObject({ code: 'SHUTTING_DOWN', retryable: true })
  })

  it('by SIGTERM takes the forks of the module along', async () => {
    const runner = await startLoaded({ module: 'dies' })
    const pids = await withFork(runner)
    runner.kill('SIGTERM')
    expect(await runner.exited).toBe(0)
    await Promise.all(pids.map(gone))
  })

  it('by SIGTERM while the module is stuck in a load is bounded', async () => {
    const runner = await launch({ module: 'basic', drainMs: 100, callMs: 500 })
    await runner.until(({ state }) => state === 'idle')
    runner.open('POST', '/load', { models: { m: { hang: '/nowhere' } } })
    await vi.waitFor(
      () => expect(runner.logs.some(({ message }) => message.includes('loading m'))).toBe(true),
      patience,
    )
    const worker = runner.workerPid()
    runner.kill('SIGTERM')
    expect(await runner.exited).toBe(0)
    expect(isAlive(worker)).toBe(false)
  })

  it('with its standard input ends everything that it started', async () => {
    const runner = await startLoaded({ module: 'dies' })
    const pids = await withFork(runner)
    runner.process.stdin?.end()
    expect(await runner.exited).toBe(0)
    await Promise.all(pids.map(gone))
  })

  it('by SIGKILL ends the worker', async () => {
    const runner = await startLoaded({ module: 'dies' })
    const worker = runner.workerPid()
    runner.kill('SIGKILL')
    await runner.exited
    await gone(worker)
  })
})
