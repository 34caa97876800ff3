import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { Missing } from './comparison.ts'
import { cpuSeconds } from './processes.ts'
import { hasProgram } from './programs.ts'

/** Load with wrk: so many connections, each with the next request as soon as its answer is there. */
export interface Load {
  readonly url: string
  readonly body: unknown
  readonly seconds: number
  /** Processes to charge: name -> pid. */
  readonly charge?: Readonly<Record<string, number>>
}

export interface LoadResult {
  readonly requestsPerSecond: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  /** Microseconds of processor time a request, by process. */
  readonly cpu: Readonly<Record<string, number>>
}

export const connections = 16
/** Before a measurement: both sides compile what is hot. */
export const warmUpSeconds = 8
const run = promisify(execFile)

/** Throws when any answer was not a 200. */
export async function load({ url, body, seconds, charge = {} }: Load): Promise<LoadResult> {
  if (!hasProgram('wrk')) throw new Missing('wrk is not installed (Debian: apt-get install wrk)')
  const script = join(import.meta.dirname, 'wrk.lua')
  const before = Object.entries(charge).map(([name, pid]) => [name, cpuSeconds(pid), pid] as const)
  const args = [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '--timeout',
    '10s',
    '-s',
    script,
    url,
    '--',
    JSON.stringify(body),
  ]
  const { stdout } = await run('wrk', args)
  const line = /^result (.*)$/m.exec(stdout)?.[1]
  if (line === undefined) throw new Error(`wrk gave no result for ${url}:\n${stdout}`)
  const result = JSON.parse(line) as { requests: number; seconds: number; p50: number; p99: number; failed: number }
  if (result.failed > 0 || result.requests === 0) {
    throw new Error(`${url}: ${result.failed} of ${result.requests} requests failed`)
  }
  return {
    requestsPerSecond: result.requests / result.seconds,
    p50: result.p50,
    p99: result.p99,
    cpu: Object.fromEntries(
      before.map(([name, used, pid]) => [name, ((cpuSeconds(pid) - used) / result.requests) * 1e6]),
    ),
  }
}
