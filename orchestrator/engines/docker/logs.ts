import type { LogLine, LogOptions } from '../engine.ts'
import { LineSplitter } from '../log-buffer.ts'
import type { Daemon } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'

/** Output of containers. The daemon sends frames: `u8 stream | 3 bytes | u32 length | payload`, each a line or a part of one. */
interface Frame {
  readonly stream: 'stdout' | 'stderr'
  readonly payload: Buffer
}

/** The daemon cuts lines at 16 KiB; a frame far above that is no frame. */
const longestFrame = 16 * 1024 * 1024

export async function* frames(source: AsyncIterable<Buffer>): AsyncIterable<Frame> {
  let held: Buffer = Buffer.alloc(0)
  for await (const chunk of source) {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
    let at = 0
    while (held.length - at >= 8) {
      const length = held.readUInt32BE(at + 4)
      if (length > longestFrame) throw new Error('the daemon sent output that is not multiplexed')
      if (held.length - at < 8 + length) break
      const stream = held[at] === 2 ? 'stderr' : 'stdout'
      yield { stream, payload: held.subarray(at + 8, at + 8 + length) }
      at += 8 + length
    }
    held = held.subarray(at)
  }
}

/** Lines of frames that begin with their time: `2026-01-02T03:04:05.123456789Z text`. That is their position too. */
export async function* timedLines(source: AsyncIterable<Buffer>): AsyncIterable<LogLine> {
  const ready: LogLine[] = []
  let stamp: { readonly timeMs: number; readonly position: string } | undefined
  const splitter = (stream: 'stdout' | 'stderr'): LineSplitter =>
    new LineSplitter((text) => ready.push({ stream, text, ...stamp }))
  const splitters = { stdout: splitter('stdout'), stderr: splitter('stderr') }
  for await (const { stream, payload } of frames(source)) {
    const space = payload.indexOf(0x20)
    const position = payload.toString('latin1', 0, Math.max(space, 0))
    const timeMs = Date.parse(position)
    if (!Number.isNaN(timeMs)) stamp = { timeMs, position }
    splitters[stream].push(Number.isNaN(timeMs) ? payload : payload.subarray(space + 1))
    yield* ready.splice(0)
  }
  splitters.stdout.flush()
  splitters.stderr.flush()
  yield* ready
}

/** Lines of a container's output; none when it is not there. Ends quietly when the signal aborts. */
export async function* containerLogs(daemon: Daemon, id: string, options: LogOptions): AsyncIterable<LogLine> {
  const { signal, follow = false, after, tail } = options
  if (tail === 0 && !follow) return
  const since = after === undefined ? {} : { since: unixTime(after) }
  const query = { follow, timestamps: true, ...since, ...(tail === undefined ? {} : { tail }) }
  try {
    const stream = await daemon.logs(id, query, signal)
    try {
      for await (const line of timedLines(stream)) {
        if (signal.aborted) return
        // The daemon begins with the line of that very time.
        if (after === undefined || line.position === undefined || line.position > after) yield line
      }
    } finally {
      stream.destroy()
    }
  } catch (error) {
    if (signal.aborted || isRefusal(error, 404, 409)) return
    throw error
  }
}

/** `1767323045.123456789`: the daemon takes nanoseconds, which a number would lose. */
function unixTime(stamp: string): string {
  const fraction = /\.(\d+)Z$/.exec(stamp)?.[1] ?? '0'
  return `${Math.floor(Date.parse(stamp) / 1000)}.${fraction.padEnd(9, '0')}`
}

/** All standard output of a container that has ended; for programs that say little. */
export async function readOutput(daemon: Daemon, id: string, signal: AbortSignal): Promise<string> {
  let text = ''
  const stream = await daemon.logs(id, { follow: false, timestamps: false }, signal)
  for await (const frame of frames(stream)) {
    if (frame.stream === 'stdout' && text.length < 1024 * 1024) text += frame.payload.toString()
  }
  return text
}
