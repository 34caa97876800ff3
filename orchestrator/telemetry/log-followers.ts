import type { LogRecord } from '../domain/views.ts'

/** Whoever follows a log: records are handed over as they come. A slow reader holds a bounded amount, then loses some. */
export interface Followers {
  push(record: LogRecord): void
  follow(): Follower
  /** Ends every follower: the log is no more. */
  end(): void
}

export interface Follower {
  /** What comes after `follow` was called. Ends with the log, with `close`, or when the signal aborts. */
  records(signal: AbortSignal): AsyncGenerator<LogRecord, void>
  close(): void
}

/** Characters of messages that one follower may lag behind. */
const lagLimit = 4 * 1024 * 1024

interface Reader {
  queue: LogRecord[]
  size: number
  lost: number
  ended: boolean
  wake: () => void
}

export function createFollowers(now: () => number): Followers {
  const readers = new Set<Reader>()
  const end = (reader: Reader): void => {
    readers.delete(reader)
    reader.ended = true
    reader.wake()
  }

  async function* records(reader: Reader, signal: AbortSignal): AsyncGenerator<LogRecord, void> {
    for (;;) {
      const { queue, lost } = reader
      reader.queue = []
      reader.size = 0
      reader.lost = 0
      for (const record of queue) {
        if (signal.aborted) return
        yield record
      }
      if (lost > 0) yield missingRecord(now(), lost)
      if (signal.aborted || (reader.ended && reader.queue.length === 0)) return
      if (reader.queue.length === 0) await woken(reader, signal)
    }
  }

  return {
    push(record) {
      for (const reader of readers) {
        if (reader.lost > 0 || reader.size + record.message.length > lagLimit) {
          reader.lost += 1
        } else {
          reader.queue.push(record)
          reader.size += record.message.length + 100
        }
        reader.wake()
      }
    },
    follow() {
      const reader: Reader = { queue: [], size: 0, lost: 0, ended: false, wake: () => undefined }
      readers.add(reader)
      return { records: (signal) => records(reader, signal), close: () => end(reader) }
    },
    end() {
      for (const reader of readers) end(reader)
    },
  }
}

function woken(reader: Reader, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      reader.wake = () => undefined
      signal.removeEventListener('abort', wake)
      resolve()
    }
    reader.wake = wake
    signal.addEventListener('abort', wake)
  })
}

export function missingRecord(now: number, lines: number): LogRecord {
  return {
    time: new Date(now).toISOString(),
    level: 'warning',
    source: 'orchestrator',
    message: `${lines} log lines are missing here: they came faster than they could be written or read.`,
  }
}
