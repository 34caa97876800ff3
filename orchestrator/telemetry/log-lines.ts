import type { FileHandle } from 'node:fs/promises'
import type { LogSnapshot } from './log-file.ts'

const chunkSize = 64 * 1024
const newline = 0x0a

/** The last `tail` lines of a snapshot (all when absent), oldest first, without their line ends. Reads chunk by chunk. */
export async function* linesOf(
  files: LogSnapshot,
  tail: number | undefined,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  const starts = await startsOf(files, tail)
  for (const [index, { handle, size }] of files.entries()) {
    const start = starts[index] ?? 0
    if (start < size) yield* linesBetween(handle, start, size, signal)
  }
}

/** Where the wanted lines begin in each file; a file that none is wanted of begins at its end. */
async function startsOf(files: LogSnapshot, tail: number | undefined): Promise<number[]> {
  const starts = files.map(() => 0)
  if (tail === undefined) return starts
  let wanted = tail
  for (let index = files.length - 1; index >= 0; index -= 1) {
    const file = files[index]
    if (file === undefined) continue
    const { start, lines } = await tailStart(file.handle, file.size, wanted)
    starts[index] = start
    wanted -= lines
  }
  return starts
}

async function tailStart(handle: FileHandle, size: number, wanted: number): Promise<{ start: number; lines: number }> {
  if (wanted <= 0 || size === 0) return { start: size, lines: 0 }
  const chunk = Buffer.alloc(chunkSize)
  let lines = 0
  for (let end = size; end > 0; ) {
    const from = Math.max(0, end - chunkSize)
    const { bytesRead } = await handle.read(chunk, 0, end - from, from)
    // A newline ends the line before it: the one at the very end of the file begins no further line.
    for (
      let at = chunk.lastIndexOf(newline, bytesRead - 1);
      at !== -1;
      at = at === 0 ? -1 : chunk.lastIndexOf(newline, at - 1)
    ) {
      if (from + at === size - 1) continue
      lines += 1
      if (lines === wanted) return { start: from + at + 1, lines }
    }
    end = from
  }
  return { start: 0, lines: lines + 1 }
}

async function* linesBetween(
  handle: FileHandle,
  start: number,
  end: number,
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  const chunk = Buffer.alloc(chunkSize)
  let rest: Buffer[] = []
  for (let position = start; position < end && !signal.aborted; ) {
    const { bytesRead } = await handle.read(chunk, 0, Math.min(chunkSize, end - position), position)
    if (bytesRead === 0) return
    position += bytesRead
    let from = 0
    for (let at = chunk.indexOf(newline); at !== -1 && at < bytesRead; at = chunk.indexOf(newline, from)) {
      rest.push(chunk.subarray(from, at))
      yield Buffer.concat(rest).toString('utf8')
      rest = []
      from = at + 1
    }
    if (from < bytesRead) rest.push(Buffer.from(chunk.subarray(from, bytesRead)))
  }
}
