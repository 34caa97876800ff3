import { readFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { setTimeout as delay, setImmediate as nextTurn } from 'node:timers/promises'

/**
 * Finds the processes of a workload, whatever forked them, and ends them. On Linux they are told by the variables that
 * they were started with, and by their session; elsewhere only their process group is known (group-records.ts).
 */
export interface Family {
  /** Variables that every member was started with. */
  readonly variables: Readonly<Record<string, string>>
  /** The session and process group that the first member made, when it is known. */
  readonly leader?: number
}

interface ProcessEntry {
  readonly pid: number
  readonly group: number
  readonly session: number
}

/** Processes of the family that live now; zombies are none. Linux. */
export async function findFamily(family: Family): Promise<readonly number[]> {
  const wanted = Object.entries(family.variables).map(([name, value]) => `${name}=${value}`)
  const entries = await readTable()
  const leader = family.leader
  // Our leader is dead by the time its family is looked for: a living one of that number is somebody else's.
  const session = leader === undefined || entries.some((entry) => entry.pid === leader) ? undefined : leader
  const marked = new Set<number>()
  for (const [index, entry] of entries.entries()) {
    if (index % readAtOnce === 0) await nextTurn()
    if (entry.session === session || hasVariables(entry.pid, wanted)) marked.add(entry.pid)
  }
  const sessions = new Set(
    entries.filter(({ pid, session: own }) => marked.has(pid) && pid === own).map(({ pid }) => pid),
  )
  return entries.filter((entry) => marked.has(entry.pid) || sessions.has(entry.session)).map((entry) => entry.pid)
}

/** SIGKILL for every member, again until none is found (one may fork while we look); answers how many there were. */
export async function killFamily(family: Family): Promise<number> {
  if (process.platform !== 'linux') return killGroup(family.leader)
  const killed = new Set<number>()
  for (let round = 0; round < 100; round += 1) {
    const found = await findFamily(family)
    if (found.length === 0) break
    for (const pid of found) {
      killed.add(pid)
      signalProcess(pid, 'SIGKILL')
    }
    await delay(Math.min(2 ** round, 50))
  }
  return killed.size
}

/** False when there is no such process, or it is not ours to signal. */
export function signalProcess(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, signal)
  } catch {
    return false
  }
}

function killGroup(leader: number | undefined): number {
  return leader !== undefined && signalProcess(-leader, 'SIGKILL') ? 1 : 0
}

/**
 * Files of /proc are made while they are read: waiting for each would take ten times as long as reading it. Between so many
 * of them, others get their turn.
 */
const readAtOnce = 64

async function readTable(): Promise<readonly ProcessEntry[]> {
  const names = await readdir('/proc')
  const entries: ProcessEntry[] = []
  for (const [index, name] of names.entries()) {
    if (index % readAtOnce === 0) await nextTurn()
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue
    const entry = readEntry(Number(name))
    if (entry !== undefined) entries.push(entry)
  }
  return entries
}

/** proc(5): `pid (command) state ppid pgrp session ...`; the command may hold spaces and brackets. */
function readEntry(pid: number): ProcessEntry | undefined {
  const stat = readOf(pid, 'stat')
  const [state, , group, session] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  if (state === undefined || state === 'Z' || state === 'X' || session === undefined) return undefined
  return { pid, group: Number(group), session: Number(session) }
}

function hasVariables(pid: number, wanted: readonly string[]): boolean {
  if (wanted.length === 0) return false
  const environ = readOf(pid, 'environ')
  if (environ === '') return false
  const variables = new Set(environ.split('\0'))
  return wanted.every((variable) => variables.has(variable))
}

/** Empty when the process is gone, or not ours to look into. */
function readOf(pid: number, file: 'stat' | 'environ'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}
