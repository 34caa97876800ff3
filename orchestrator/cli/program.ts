import { Command } from 'commander'
import { doctorCommand } from './commands/doctor.ts'
import { downCommand } from './commands/down.ts'
import { environmentsCommand } from './commands/environments.ts'
import { eventsCommand } from './commands/events.ts'
import { inferCommand } from './commands/infer.ts'
import { keyCommands } from './commands/keys.ts'
import { logsCommand } from './commands/logs.ts'
import { modelCommands } from './commands/models.ts'
import { moduleCommands } from './commands/modules.ts'
import { scaleCommands } from './commands/scale.ts'
import { schemaCommand } from './commands/schema.ts'
import { upCommand } from './commands/up.ts'
import type { Context } from './context.ts'

export function buildProgram(context: Context): Command {
  const program = new Command('berth')
    .description('Runs every AI module in its own container and puts one API in front of all of them.')
    .option('--json', 'print nothing but JSON')
    .option('-v, --verbose', 'show tracebacks and request ids of errors')
    .exitOverride()
    .showHelpAfterError('(berth --help, or berth COMMAND --help, shows examples)')
    .configureHelp({ showGlobalOptions: true })
    .addHelpText(
      'after',
      `
Variables: BERTH_URL (where the orchestrator is, http://127.0.0.1:8080), BERTH_KEY (an API key, where keys are on).
Exit codes: 0 ok, 1 failed, 2 usage.

Examples:
  berth up -d                            start Berth in the background
  berth ps                               what modules there are and what they do
  berth infer minilm "a cat on a mat"    ask a model
  berth COMMAND --help                   more examples`,
    )
  upCommand(program, context)
  downCommand(program, context)
  moduleCommands(program, context)
  scaleCommands(program, context)
  modelCommands(program, context)
  inferCommand(program, context)
  logsCommand(program, context)
  eventsCommand(program, context)
  environmentsCommand(program, context)
  keyCommands(program, context)
  doctorCommand(program, context)
  schemaCommand(program, context)
  return program
}
