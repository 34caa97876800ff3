import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../domain/clock.ts'
import { isJsonObject } from '../domain/json.ts'
import type { LogRecord } from '../domain/views.ts'
import { type LogFile, openLogFile } from './log-file.ts'
import { createFollowers, type Follower, type Followers, missingRecord } from './log-followers.ts'
import { lastBetween, linesOf, linesUntil } from './log-lines.ts'

/** The logs of modules, kept in the data folder as NDJSON so that they outlive containers and the orchestrator. */
export interface ModuleLogs {
  /** Never blocks and never throws. A message beyond 64 Ki characters is cut. `origin`: where the line was copied from. */
  append(module: string, record: LogRecord, origin?: LogOrigin): void
  /**
   * The last `tail` records (all that are kept when absent), oldest first; with `follow` those that come afterwards too,
   * until the signal aborts or the log is removed. A module without a log has an empty one.
   */
  read(module: string, options: ReadOptions): AsyncIterable<LogRecord>
  /** Position of the last line that was copied from this workload; undefined when none of it is kept. */
  lastPosition(module: string, workload: LogOrigin['workload']): Promise<string | undefined>
  /** Deletes a module's log and ends who follows it. */
  remove(module: string): Promise<void>
  /** Resolves when everything appended so far is on disk. */
  flush(): Promise<void>
  /** Writes what waits and ends everybody who follows. */
  close(): Promise<void>
}

export interface LogOrigin {
  /** Says which workload of all time: replica and generation. */
  readonly workload: string
  readonly position: string
}

export interface ReadOptions {
  readonly tail?: number
  /**
   * Begins with the record after the one of this id, 0 with the oldest; `tail` is left aside. A first record says so where
   * it is no longer kept.
   */
  readonly after?: number
  readonly follow?: boolean
  readonly signal: AbortSignal
}

export interface ModuleLogsOptions {
  /** Folder of the logs; made when the first line is written. */
  readonly directory: string
  readonly clock: Clock
  /** The disk takes no lines; told again only after it took some. */
  readonly onFailure: (module: string, error: unknown) => void
  /** Size at which a log is set aside, one such file being kept: 10 MB by default. */
  readonly maxBytes?: number
}

const messageLimit = 64 * 1024

interface ModuleLog {
  readonly file: LogFile
  readonly followers: Followers
}

/**
 * A line is shown to those who follow once it is in the file, so that nobody has seen one that a crash takes back: a new
 * orchestrator copies that line again. Ids begin at the microsecond of the start, so that none comes twice.
 */
export function createModuleLogs(options: ModuleLogsOptions): ModuleLogs {
  const { directory, clock, maxBytes = 10_000_000 } = options
  const logs = new Map<string, ModuleLog>()
  let lastId = Math.trunc(clock.now()) * 1_000

  const logOf = (module: string): ModuleLog => {
    const known = logs.get(module)
    if (known !== undefined) return known
    const followers = createFollowers(() => clock.now())
    const file = openLogFile({
      path: join(directory, fileName(module)),
      maxBytes,
      missing: (lines) => `${JSON.stringify(missingRecord(clock.now(), lines))}\n`,
      onGap: (lines) => followers.push(missingRecord(clock.now(), lines)),
      onFailure: (error) => options.onFailure(module, error),
    })
    const log: ModuleLog = { file, followers }
    logs.set(module, log)
    return log
  }

  async function* read(module: string, options: ReadOptions): AsyncGenerator<LogRecord, void> {
    const { tail, after, follow, signal } = options
    const log = logOf(module)
    let follower: Follower | undefined
    // In one step with the snapshot: a record is either in the files or handed to the follower, never both or neither.
    const snapshot = log.file.snapshot(() => {
      if (follow === true) follower = log.followers.follow()
    })
    try {
      const files = await snapshot
      try {
        const skip = after ? await linesUntil(files, lineStart(after), signal) : 0
        if (after && skip === 0) yield noLongerKept(clock.now())
        for await (const line of linesOf(files, after === undefined ? { tail } : { skip }, signal)) {
          const record = parse(line)
          if (record !== undefined) yield record
        }
      } finally {
        await Promise.all(files.map(({ handle }) => handle.close()))
      }
      if (follower !== undefined) yield* follower.records(signal)
    } finally {
      follower?.close()
    }
  }

  const flush = async (): Promise<void> => {
    await Promise.all(Array.from(logs.values(), ({ file }) => file.flush()))
  }

  return {
    append(module, given, origin) {
      const { file, followers } = logOf(module)
      lastId += 1
      const message = given.message.length > messageLimit ? cut(given.message) : given.message
      const record: LogRecord = { id: lastId, ...given, message }
      file.append(`${JSON.stringify(origin === undefined ? record : { ...record, origin: mark(origin) })}\n`, () =>
        followers.push(record),
      )
    },
    read,
    async lastPosition(module, workload) {
      const files = await logOf(module).file.snapshot()
      try {
        const found = await lastBetween(files, `"origin":"${mark({ workload, position: '' })}`, '"')
        return found === undefined ? undefined : decodeURIComponent(found)
      } finally {
        await Promise.all(files.map(({ handle }) => handle.close()))
      }
    },
    async remove(module) {
      const { file, followers } = logOf(module)
      await file.remove()
      followers.end()
    },
    flush,
    async close() {
      await flush()
      for (const { followers } of logs.values()) followers.end()
    },
  }
}

/** Every line of a record begins so: it is found without reading JSON. */
function lineStart(id: number): string {
  return `{"id":${id},`
}

/** Without quotes or backslashes, so that it stands in the file as it is, and in no message: there quotes are escaped. */
function mark({ workload, position }: LogOrigin): string {
  return `${encodeURIComponent(workload)} ${encodeURIComponent(position)}`
}

function noLongerKept(now: number): LogRecord {
  const message = 'Log lines are missing here: they are no longer kept.'
  return { time: new Date(now).toISOString(), level: 'warning', source: 'orchestrator', message }
}

function cut(message: string): string {
  return `${message.slice(0, messageLimit)} [cut: ${message.length - messageLimit} more characters]`
}

/** Ids become file names that no id can climb out of the folder with. */
function fileName(module: string): string {
  const name = encodeURIComponent(module)
  const short = name.length <= 180 ? name : createHash('sha256').update(module).digest('hex')
  return `${short}.ndjson`
}

/** Undefined for a line that a crash or a foreign hand tore. */
function parse(line: string): LogRecord | undefined {
  try {
    const value: unknown = JSON.parse(line)
    if (!isJsonObject(value) || typeof value.message !== 'string' || typeof value.time !== 'string') return undefined
    const { origin: _ofNoInterest, ...record } = value
    return record as unknown as LogRecord
  } catch {
    return undefined
  }
}
