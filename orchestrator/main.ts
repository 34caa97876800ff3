/**
 * environment -> configuration -> app -> listen -> graceful close. With `--sweep`: removes what a dead orchestrator of
 * this data folder left running. With `--schema config|module`: prints a published schema.
 */
import { fileURLToPath } from 'node:url'
import { type RunningApp, startApp, sweep } from './app.ts'
import { manifestSchema } from './catalog/module-yaml.ts'
import { loadConfig } from './config/load.ts'
import { configSchema } from './config/schema.ts'
import { BerthError } from './domain/errors.ts'
import { dropPrivileges } from './privileges.ts'

const repositoryRoot = fileURLToPath(new URL('..', import.meta.url))

async function main(args: readonly string[]): Promise<void> {
  if (args[0] === '--schema') {
    const schema = args[1] === 'module' ? manifestSchema : configSchema
    process.stdout.write(`${JSON.stringify(schema, undefined, 2)}\n`)
    return
  }
  dropPrivileges(process.env)
  const source = { env: process.env, cwd: process.cwd() }
  const config = loadConfig(source)
  if (args[0] === '--sweep') {
    const removed = await sweep({ config, source, env: process.env, repositoryRoot })
    process.stdout.write(`${JSON.stringify({ removed })}\n`)
    return
  }
  const app = await startApp({ config, source, env: process.env, repositoryRoot })
  closeOnSignal(app)
  await app.closed
}

/** The first signal drains; a second one does not wait. */
function closeOnSignal(app: RunningApp): void {
  let asked = false
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (asked) process.exit(1)
      asked = true
      app.close(signal).catch(fail)
    })
  }
}

function fail(error: unknown): void {
  if (error instanceof BerthError) {
    process.stderr.write(`berth: ${error.message}\n`)
    const { remedy } = error.details
    if (typeof remedy === 'string') process.stderr.write(`  ${remedy}\n`)
  } else {
    process.stderr.write(`berth: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  }
  process.exit(1)
}

// A fault that nobody caught leaves the state unknown: workloads go on, and the next start adopts them.
process.on('uncaughtException', fail)
process.on('unhandledRejection', fail)
main(process.argv.slice(2)).then(() => process.exit(0), fail)
