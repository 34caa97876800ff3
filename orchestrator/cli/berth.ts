/** The `berth` command: talks to the HTTP API and nothing else. This file is its entry; `program.ts` lists the commands. */
import path from 'node:path'
import { run } from './run.ts'

process.exit(await run(process.argv.slice(2), path.join(import.meta.dirname, '..', 'main.ts')))
