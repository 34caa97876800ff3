import type { Command } from 'commander'
import type { BerthEvent } from '../../domain/views.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { records } from '../follow.ts'
import { examples, localTime, parseCount } from '../help.ts'

interface EventsOptions extends GlobalOptions {
  readonly follow?: true
  readonly module?: string
  readonly tail: number
}

/** `events [-f]`. */
export function eventsCommand(program: Command, context: Context): void {
  program
    .command('events')
    .description('print what has changed and why: replicas, environments, modules, configuration, engine')
    .option('-f, --follow', 'go on as changes come; Ctrl-C ends it')
    .option('-m, --module <module>', 'only changes of this module')
    .option('-n, --tail <events>', 'how many of the last events to begin with', parseCount, 100)
    .addHelpText(
      'after',
      examples('berth events', 'berth events -f -n 0', 'berth events --module embeddings --follow --json'),
    )
    .action(async (_options: unknown, command: Command) => {
      const { follow = false, module, tail, json } = command.optsWithGlobals<EventsOptions>()
      const path = (after: number | undefined): string => {
        const query = new URLSearchParams({ follow: String(follow) })
        if (module !== undefined) query.set('module', module)
        if (after === undefined) query.set('tail', String(tail))
        else query.set('after', String(after))
        return `/api/events?${query}`
      }
      for await (const record of records(context, { path, follow })) {
        const line = json ? JSON.stringify(record) : formatEvent(record as BerthEvent, context.out.stdoutIsTerminal)
        await context.out.print(`${line}\n`)
      }
    })
}

/** `2026-01-31 12:00:00.123 replica embeddings-0 starting -> idle: its runner answers`, in local time. */
export function formatEvent(event: BerthEvent, colored: boolean): string {
  const { time, type, module, replica, from, to, cause } = event
  const move = from === undefined ? to : `${from} -> ${to}`
  const subject = [type, replica ?? module, move].filter((part) => part !== undefined).join(' ')
  const line = `${localTime(time)} ${subject}: ${cause}`
  const color = colored ? colors[to ?? type] : undefined
  return color === undefined ? line : `\u001b[${color}m${line}\u001b[0m`
}

const colors: Readonly<Record<string, string>> = {
  failed: '31',
  broken: '31',
  refused: '31',
  lost: '31',
  missed: '33',
}
