import type { Command } from 'commander'
import type { Context, GlobalOptions } from '../context.ts'
import type { Check } from '../doctor/check.ts'
import { runChecks } from '../doctor/checks.ts'
import { examples } from '../help.ts'

/** `doctor`. */
export function doctorCommand(program: Command, context: Context): void {
  program
    .command('doctor')
    .description('tell what is there (engine, GPU, Python, network) and what to do about what is not')
    .addHelpText('after', examples('berth doctor', 'berth doctor --json | jq \'.checks[] | select(.level != "ok")\''))
    .action(async (_options: unknown, command: Command) => {
      const checks = await runChecks(context)
      const ok = checks.every(({ level }) => level !== 'fail')
      if (command.optsWithGlobals<GlobalOptions>().json) await context.out.print(`${JSON.stringify({ ok, checks })}\n`)
      else await context.out.print(describeChecks(checks))
      if (!ok) context.setExitCode(1)
    })
}

export function describeChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  return checks
    .map(({ name, level, message, remedy }) => {
      const line = `${level.padEnd(4)}  ${name.padEnd(width)}  ${message}\n`
      return remedy === undefined ? line : `${line}${' '.repeat(width + 8)}${remedy}\n`
    })
    .join('')
}
