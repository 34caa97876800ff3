import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import type { Context, GlobalOptions } from '../context.ts'
import { CliError, UnreachableError } from '../failures.ts'
import { examples } from '../help.ts'
import { outputOf } from '../orchestrator-process.ts'
import { isHealthy } from '../probe.ts'

/** After the last module is gone the orchestrator has little left to do. */
const endMs = 30_000

/** `down`. */
export function downCommand(program: Command, context: Context): void {
  program
    .command('down')
    .description('stop every module of this Berth, then Berth itself; without one running, remove what it left behind')
    .addHelpText('after', examples('berth down'))
    .action(async (_options: unknown, command: Command) => {
      const { json } = command.optsWithGlobals<GlobalOptions>()
      const { out } = context
      const stopped = await shutDown(context)
      if (stopped === undefined) return sweep(context, json === true)
      if (json) await out.print(`${JSON.stringify({ stopped })}\n`)
      else out.note(stopped.length === 0 ? 'Berth is down' : `Berth is down; stopped ${stopped.join(', ')}`)
    })
}

/** The modules that were stopped; undefined when no orchestrator answers on this machine. */
async function shutDown({ api, out, signal, target }: Context): Promise<readonly string[] | undefined> {
  try {
    if (await isHealthy(api, signal)) out.status('berth: stopping the modules')
    const { stopped } = await api.json<{ stopped: readonly string[] }>('POST', '/api/shutdown', { signal })
    const deadline = Date.now() + endMs
    while (await isHealthy(api, signal)) {
      if (Date.now() > deadline)
        throw new CliError(`the modules are stopped, but the orchestrator at ${target.url} still answers`)
      await delay(100, undefined, { signal })
    }
    return stopped
  } catch (error) {
    if (error instanceof UnreachableError && target.local) return undefined
    throw error
  }
}

/** Without an orchestrator its program removes what a dead one left: containers, networks, processes. */
async function sweep(context: Context, json: boolean): Promise<void> {
  const { out, target } = context
  if (!json) out.note(`no orchestrator answers at ${target.url}; removing what one may have left behind`)
  const answer = JSON.parse(await outputOf(context, ['--sweep'])) as { removed: readonly unknown[] }
  if (json) return out.print(`${JSON.stringify({ stopped: [], ...answer })}\n`)
  out.note(answer.removed.length === 0 ? 'nothing was left' : `removed ${answer.removed.map(String).join(', ')}`)
}
