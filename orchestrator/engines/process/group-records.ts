import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { signalProcess } from './process-table.ts'
import { runProgram } from './run-program.ts'

/**
 * Process groups on record, for systems whose process table does not show variables: a later orchestrator ends what a
 * killed one has left. On Linux process-table.ts finds more and needs no record.
 */
const suffix = '.group'

export async function recordGroup(folder: string, leader: number): Promise<void> {
  await writeFile(join(folder, `${leader}${suffix}`), String(Date.now()))
}

export async function forgetGroup(folder: string, leader: number): Promise<void> {
  await rm(join(folder, `${leader}${suffix}`), { force: true })
}

/** Ends recorded groups that still hold a program of ours; answers how many. Numbers are reused, hence the looking. */
export async function endRecordedGroups(folder: string, env: Readonly<Record<string, string>>): Promise<number> {
  const bootedAt = Date.now() - uptime() * 1000
  const { stdout } = await runProgram('ps', ['-axo', 'pgid=,command='], { timeoutMs: 5_000, env })
  const ours = new Set(
    stdout
      .split('\n')
      .filter((line) => /module-runner|berth_worker/.test(line))
      .map((line) => Number.parseInt(line, 10)),
  )
  let ended = 0
  for (const name of await readdir(folder)) {
    if (!name.endsWith(suffix)) continue
    const leader = Number.parseInt(name, 10)
    const recordedAt = Number(await readFile(join(folder, name), 'utf8').catch(() => ''))
    if (recordedAt > bootedAt && ours.has(leader) && signalProcess(-leader, 'SIGKILL')) ended += 1
    await forgetGroup(folder, leader)
  }
  return ended
}
