/** The command with a stand-in for the orchestrator's program: what `up`, `down` and `schema` start. */
import path from 'node:path'
import { run } from '../../../orchestrator/cli/run.ts'

process.exit(await run(process.argv.slice(2), path.join(import.meta.dirname, 'stand-in-main.ts')))
