import type { InstallProgress } from '../../protocol.ts'
import type { LogSink } from '../log-output.ts'

/** Turns the lines of uv and pip into steps for a progress bar. */
export function progressOf(log: LogSink): (line: string) => void {
  let total: number | undefined
  let fetched = 0

  const tell = (message: string, current?: number) => {
    const counted = total === undefined || current === undefined ? {} : { current: Math.min(current, total), total }
    log.writeLine({ progress: { message, ...counted } } satisfies InstallProgress)
  }

  return (line) => {
    const text = line.trim()
    const resolved = /^Resolved (\d+) packages?/.exec(text)
    if (resolved?.[1] !== undefined) {
      total = Number(resolved[1])
      fetched = 0
      tell('Resolved', 0)
    } else if (/^(Downloading|Building) /.test(text)) tell(text, fetched)
    else if (/^(Downloaded|Built) /.test(text)) {
      fetched += 1
      tell(text, fetched)
    } else if (/^(Collecting|Installing collected packages|Successfully installed) ?/.test(text))
      tell(text.slice(0, 200))
    else if (/^Prepared \d+ packages?/.test(text)) tell('Prepared', total)
    else if (/^Installed \d+ packages?/.test(text)) tell('Installed', total)
  }
}
