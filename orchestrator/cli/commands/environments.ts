import type { Command } from 'commander'
import type { Context, GlobalOptions } from '../context.ts'
import { examples } from '../help.ts'
import { ago, megabytes, table } from '../output.ts'

interface Environment {
  readonly key: string
  readonly bytes?: number
  /** ISO 8601. */
  readonly createdAt?: string
  readonly modules?: readonly string[]
}

interface Environments {
  readonly environments: readonly Environment[]
}

interface Pruned {
  readonly removed: readonly Environment[]
}

/** `environments` and `environments prune`. */
export function environmentsCommand(program: Command, context: Context): void {
  const environments = program
    .command('environments')
    .description('list the installed environments: what modules with the same requirements share')
    .addHelpText('after', examples('berth environments', 'berth environments prune'))
    .action(async (_options: unknown, command: Command) => {
      const answer = await context.api.json<Environments>('GET', '/api/environments', { signal: context.signal })
      if (command.optsWithGlobals<GlobalOptions>().json) return context.out.print(`${JSON.stringify(answer)}\n`)
      await context.out.print(environmentTable(answer.environments, Date.now()))
    })
  environments
    .command('prune')
    .description('remove the environments that no module wants any more')
    .action(async (_options: unknown, command: Command) => {
      const answer = await context.api.json<Pruned>('POST', '/api/environments/prune', { signal: context.signal })
      if (command.optsWithGlobals<GlobalOptions>().json) return context.out.print(`${JSON.stringify(answer)}\n`)
      const bytes = answer.removed.reduce((sum, environment) => sum + (environment.bytes ?? 0), 0)
      context.out.note(`${answer.removed.length} removed, ${megabytes(bytes)} freed`)
    })
}

function environmentTable(environments: readonly Environment[], now: number): string {
  const rows = environments.map(({ key, bytes, createdAt, modules }) => [
    key,
    bytes === undefined ? '-' : megabytes(bytes),
    ago(createdAt, now),
    modules?.join(',') || '-',
  ])
  return table(['KEY', 'SIZE', 'CREATED', 'MODULES'], rows)
}
