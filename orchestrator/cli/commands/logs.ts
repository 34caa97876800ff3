import type { Command } from 'commander'
import type { LogRecord } from '../../domain/views.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { records } from '../follow.ts'
import { examples, localTime, parseCount } from '../help.ts'

interface LogsOptions extends GlobalOptions {
  readonly follow?: true
  readonly tail: number
}

/** `logs [-f] MODULE`. */
export function logsCommand(program: Command, context: Context): void {
  program
    .command('logs')
    .description("print a module's log: what it prints, its runner, the installer of its requirements")
    .argument('<module>')
    .option('-f, --follow', 'go on as lines come; Ctrl-C ends it')
    .option('-n, --tail <lines>', 'how many of the last lines to begin with', parseCount, 100)
    .addHelpText(
      'after',
      examples('berth logs embeddings', 'berth logs -f -n 20 embeddings', 'berth logs embeddings --json'),
    )
    .action(async (id: string, _options: unknown, command: Command) => {
      const { follow = false, tail, json } = command.optsWithGlobals<LogsOptions>()
      const path = (after: number | undefined): string => {
        const from = after === undefined ? `tail=${tail}` : `after=${after}`
        return `/api/modules/${encodeURIComponent(id)}/logs?${from}${follow ? '&follow=true' : ''}`
      }
      for await (const record of records(context, { path, follow })) {
        const line = json ? JSON.stringify(record) : formatRecord(record as LogRecord, context.out.stdoutIsTerminal)
        await context.out.print(`${line}\n`)
      }
    })
}

const colors: Readonly<Record<string, string>> = { debug: '2', warning: '33', error: '31', critical: '1;31' }

/** `2026-01-31 12:00:00.123 module    warning  low on memory`, in local time. */
export function formatRecord({ time, level, source, message }: LogRecord, colored: boolean): string {
  const line = `${localTime(time)} ${source.padEnd(12)} ${level.padEnd(8)} ${message}`
  const color = colored ? colors[level] : undefined
  return color === undefined ? line : `\u001b[${color}m${line}\u001b[0m`
}
