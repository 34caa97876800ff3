import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { afterEach, describe, expect, it } from 'vitest'
import { endRecordedGroups, recordGroup } from '../../../../orchestrator/engines/process/group-records.ts'
import { findFamily, killFamily } from '../../../../orchestrator/engines/process/process-table.ts'
import { isAlive } from '../../../support/processes.ts'

const path = process.env.PATH ?? ''

describe.skipIf(process.platform !== 'linux')('the process table', () => {
  const started: ChildProcess[] = []
  afterEach(() => {
    for (const child of started.splice(0)) child.kill('SIGKILL')
  })

  /** A shell that runs `script` and says the process ids of what it started, one a line, before `ready`. */
  async function shell(script: string, env: Record<string, string>): Promise<{ child: ChildProcess; pids: number[] }> {
    const child = spawn('/bin/bash', ['-c', script], {
      detached: true,
      env: { PATH: path, ...env },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    started.push(child)
    const pids: number[] = []
    for await (const line of createInterface({ input: child.stdout })) {
      if (line === 'ready') break
      pids.push(Number(line))
    }
    return { child, pids }
  }

  it('shows a family by its variables, whatever forked it, and nobody else', async () => {
    const mark = randomUUID()
    const script = 'sleep 3600 >/dev/null & echo $!; setsid sleep 3600 >/dev/null & echo $!; echo ready; wait'
    const { child, pids } = await shell(script, { MARK: mark })
    await shell('sleep 3600 >/dev/null & echo $!; echo ready; wait', { MARK: 'another' })
    const found = await findFamily({ variables: { MARK: mark } })
    expect(found).toEqual(expect.arrayContaining([child.pid, ...pids]))
    expect(found).not.toContain(process.pid)
    expect(await killFamily({ variables: { MARK: mark } })).toBe(found.length)
    expect(pids.filter(isAlive)).toEqual([])
    expect(isAlive(started[1]?.pid ?? 0)).toBe(true)
    started[1]?.kill('SIGKILL')
    await killFamily({ variables: { MARK: 'another' } })
  })

  it('shows what stayed in the session of a leader that is gone, even without its variables', async () => {
    const mark = randomUUID()
    const { child, pids } = await shell('env -i sleep 3600 >/dev/null & echo $!; echo ready; wait', { MARK: mark })
    const leader = child.pid ?? 0
    child.kill('SIGKILL')
    await once(child, 'exit')
    expect(pids.filter(isAlive)).toEqual(pids)
    expect(await killFamily({ variables: { MARK: mark }, leader })).toBe(1)
    expect(pids.filter(isAlive)).toEqual([])
  })
})

describe('process groups on record', () => {
  it('are ended when a program of ours still runs in them, and forgotten', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'berth-groups-'))
    const start = (name: string): ChildProcess =>
      spawn('/bin/bash', ['-c', 'exec -a "$0" sleep 3600', name], {
        detached: true,
        stdio: 'ignore',
        env: { PATH: path },
      })
    const ours = start('module-runner')
    const other = start('something-else')
    try {
      await Promise.all([once(ours, 'spawn'), once(other, 'spawn')])
      const ended = once(ours, 'exit')
      for (const child of [ours, other]) await recordGroup(folder, child.pid ?? 0)
      expect(await endRecordedGroups(folder, { PATH: path })).toBe(1)
      expect(await ended).toEqual([null, 'SIGKILL'])
      expect(isAlive(other.pid ?? 0)).toBe(true)
      expect(await readdir(folder)).toEqual([])
    } finally {
      ours.kill('SIGKILL')
      other.kill('SIGKILL')
      await rm(folder, { recursive: true, force: true })
    }
  })
})
