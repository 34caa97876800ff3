import type { FileHandle } from 'node:fs/promises'
import type { LogSnapshot } from './log-file.ts'

const chunkSize = 64 * 1024
const searchSize = 1024 * 1024
const longestFound = 512
const newline = 0x0a

/** Lines of a snapshot, oldest first, without their line ends: the last `tail`, or all but the first `skip`. */
export async function* linesOf(
  files: LogSnapshot,
  { tail, skip = 0 }: { readonly tail?: number | undefined; readonly skip?: number },
  signal: AbortSignal,
): AsyncGenerator<string, void> {
  const starts = await startsOf(files, tail)
  let left = skip
  for (const [index, { handle, size }] of files.entries()) {
    const start = starts[index] ?? 0
    if (start >= size) continue
    for await (const line of linesBetween(handle, start, size, signal)) {
      if (left > 0) left -= 1
      else yield line
    }
  }
}

/** How many lines there are up to the last that begins so, itself included; 0 when none does. */
export async function linesUntil(files: LogSnapshot, beginning: string, signal: AbortSignal): Promise<number> {
  let lines = 0
  let found = 0
  for await (const line of linesOf(files, {}, signal)) {
    lines += 1
    if (line.startsWith(beginning)) found = lines
  }
  return found
}

/** The text between the last occurrence of `before` and the `end` that follows it in its line. */
export async function lastBetween(files: LogSnapshot, before: string, end: string): Promise<string | undefined> {
  const overlap = Buffer.byteLength(before) - 1
  for (const { handle, size } of files.toReversed()) {
    for (let to = size; to > 0; to -= searchSize) {
      const from = Math.max(0, to - searchSize)
      const chunk = Buffer.alloc(Math.min(size, to + overlap) - from)
      await handle.read(chunk, 0, chunk.length, from)
      const at = chunk.lastIndexOf(before)
      if (at === -1) continue
      const rest = Buffer.alloc(Math.min(longestFound, size - from - at - Buffer.byteLength(before)))
      await handle.read(rest, 0, rest.length, from + at + Buffer.byteLength(before))
      const stop = rest.indexOf(end)
      return stop === -1 ? undefined : rest.toString('utf8', 0, stop)
    }
  }
  return undefined
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
