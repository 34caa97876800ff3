import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '../domain/clock.ts'
import { isJsonObject } from '../domain/json.ts'
import type { LogRecord } from '../domain/views.ts'
import { type LogFile, openLogFile } from './log-file.ts'
import { createFollowers, type Followers, missingRecord } from './log-followers.ts'
import { linesOf } from './log-lines.ts'

/** The logs of modules, kept in the data folder as NDJSON so that they outlive containers and the orchestrator. */
export interface ModuleLogs {
  /** Never blocks and never throws. A message beyond 64 Ki characters is cut. */
  append(module: string, record: LogRecord): void
  /**
   * The last `tail` records (all that are kept when absent), oldest first; with `follow` those that come afterwards too,
   * until the signal aborts or the log is removed. A module without a log has an empty one.
   */
  read(module: string, options: ReadOptions): AsyncIterable<LogRecord>
  /** Deletes a module's log and ends who follows it. */
  remove(module: string): Promise<void>
  /** Resolves when everything appended so far is on disk. */
  flush(): Promise<void>
  /** Writes what waits and ends everybody who follows. */
  close(): Promise<void>
}

export interface ReadOptions {
  readonly tail?: number
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

export function createModuleLogs(options: ModuleLogsOptions): ModuleLogs {
  const { directory, clock, maxBytes = 10_000_000 } = options
  const logs = new Map<string, ModuleLog>()

  const logOf = (module: string): ModuleLog => {
    const known = logs.get(module)
    if (known !== undefined) return known
    const log: ModuleLog = {
      file: openLogFile({
        path: join(directory, fileName(module)),
        maxBytes,
        missing: (lines) => `${JSON.stringify(missingRecord(clock.now(), lines))}\n`,
        onFailure: (error) => options.onFailure(module, error),
      }),
      followers: createFollowers(() => clock.now()),
    }
    logs.set(module, log)
    return log
  }

  async function* read(module: string, { tail, follow, signal }: ReadOptions): AsyncGenerator<LogRecord, void> {
    const log = logOf(module)
    // In one step with the snapshot: a record is either in the files or handed to the follower, never both or neither.
    const follower = follow === true ? log.followers.follow() : undefined
    const snapshot = log.file.snapshot()
    try {
      const files = await snapshot
      try {
        for await (const line of linesOf(files, tail, signal)) {
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
    append(module, given) {
      const log = logOf(module)
      const record = given.message.length > messageLimit ? { ...given, message: cut(given.message) } : given
      log.file.append(`${JSON.stringify(record)}\n`)
      log.followers.push(record)
    },
    read,
    async remove(module) {
      const log = logOf(module)
      log.followers.end()
      await log.file.remove()
    },
    flush,
    async close() {
      for (const { followers } of logs.values()) followers.end()
      await flush()
    },
  }
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
    return value as unknown as LogRecord
  } catch {
    return undefined
  }
}
