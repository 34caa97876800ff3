import { Argument, type Command } from 'commander'
import type { Context } from '../context.ts'
import { UnreachableError } from '../failures.ts'
import { examples } from '../help.ts'
import { outputOf } from '../orchestrator-process.ts'

/** `schema [config|module]`. */
export function schemaCommand(program: Command, context: Context): void {
  program
    .command('schema')
    .description('print the JSON schema of berth.yaml (config) or of module.yaml (module)')
    .addArgument(new Argument('[document]').choices(['config', 'module']).default('config'))
    .addHelpText('after', examples('berth schema > berth.schema.json', 'berth schema module > module.schema.json'))
    .action(async (document: string) => {
      await context.out.print(`${JSON.stringify(await readSchema(context, document), null, 2)}\n`)
    })
}

/** From the orchestrator, else from its program: an editor wants the schema before anything runs. */
async function readSchema(context: Context, document: string): Promise<unknown> {
  try {
    return await context.api.json('GET', `/api/schemas/${document}`, { signal: context.signal })
  } catch (error) {
    if (!(error instanceof UnreachableError) || !context.target.local) throw error
  }
  return JSON.parse(await outputOf(context, ['--schema', document])) as unknown
}
