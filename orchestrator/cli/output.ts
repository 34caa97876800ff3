import type { Writable } from 'node:stream'

/** Where the command writes: answers to stdout, everything else to stderr. */
export interface Output {
  /** Resolves when the reader has room for more. */
  print(text: string): Promise<void>
  note(text: string): void
  /** A status that replaces the one before on a terminal; in a log, a line now and then. */
  status(text: string): void
  clearStatus(): void
  readonly stdoutIsTerminal: boolean
  readonly columns: number
}

export interface OutputStream extends Writable {
  readonly isTTY?: boolean
  readonly columns?: number
}

/** Without a terminal a status that only moves on is written this seldom. */
const statusEveryMs = 5_000

export function createOutput(stdout: OutputStream, stderr: OutputStream, now: () => number = Date.now): Output {
  let shown = false
  let last = { text: '', phase: '', at: 0 }
  const clearStatus = (): void => {
    if (shown) stderr.write('\r\u001b[2K')
    shown = false
  }
  return {
    stdoutIsTerminal: stdout.isTTY === true,
    columns: stdout.columns ?? 80,
    async print(text) {
      clearStatus()
      // A reader that went away will not come back, and its stream says nothing more.
      if (!stdout.writable) return
      if (!stdout.write(text)) await new Promise<void>((resolve) => whenWritable(stdout, resolve))
    },
    note(text) {
      clearStatus()
      stderr.write(`${text}\n`)
    },
    status(text) {
      if (stderr.isTTY) {
        stderr.write(`\r\u001b[2K${shorten(text, (stderr.columns ?? 80) - 1)}`)
        shown = true
        return
      }
      const phase = text.split(/: | \[/, 2).join()
      if (text === last.text || (phase === last.phase && now() - last.at < statusEveryMs)) return
      last = { text, phase, at: now() }
      stderr.write(`${text}\n`)
    },
    clearStatus,
  }
}

function whenWritable(stream: Writable, resolve: () => void): void {
  const done = (): void => {
    stream.off('drain', done)
    stream.off('close', done)
    stream.off('error', done)
    resolve()
  }
  stream.on('drain', done)
  stream.on('close', done)
  stream.on('error', done)
}

/** One line of at most `width` characters. */
export function shorten(text: string, width: number): string {
  const line = text.replaceAll(/\s+/g, ' ').trim()
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`
}

/** Columns as wide as their widest cell; the last one is cut to `width` where one is given. */
export function table(head: readonly string[], rows: readonly (readonly string[])[], width?: number): string {
  const all = [head, ...rows.map((row) => row.map((cell) => cell.replaceAll(/\s+/g, ' ')))]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  const lines = all.map((row) => {
    const cells = row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)))
    const line = cells.join('  ').trimEnd()
    return width === undefined ? line : shortenLine(line, width)
  })
  return `${lines.join('\n')}\n`
}

function shortenLine(line: string, width: number): string {
  return line.length <= width ? line : `${line.slice(0, Math.max(0, width - 1))}…`
}

/** `152 MB` */
export function megabytes(bytes: number): string {
  if (bytes < 1_000) return `${bytes} B`
  if (bytes < 1_000_000) return `${(bytes / 1_000).toFixed(0)} kB`
  if (bytes < 1_000_000_000) return `${(bytes / 1_000_000).toFixed(bytes < 10_000_000 ? 1 : 0)} MB`
  return `${(bytes / 1_000_000_000).toFixed(1)} GB`
}

/** `3m ago` for an ISO 8601 time. */
export function ago(time: string | undefined, now: number): string {
  const at = Date.parse(time ?? '')
  if (Number.isNaN(at)) return '-'
  const seconds = Math.max(0, Math.round((now - at) / 1000))
  if (seconds < 60) return `${seconds}s ago`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ago`
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)}h ago`
  return `${Math.floor(seconds / 86_400)}d ago`
}
