/**
 * `npm run chaos`: kills at random under load, does on purpose what must fail no request, kills the orchestrator over twenty
 * modules; prints what became of it, and ends with 1 when an invariant or a target was missed.
 */
import { parseArgs } from 'node:util'
import { dockerAvailable } from '../support/docker.ts'
import { measureAdoption } from './adoption.ts'
import { runChaos } from './chaos.ts'
import { allFaults } from './faults/all.ts'
import { type GracefulResult, gracefulPaths, runGraceful } from './graceful.ts'
import { renderAdoption, renderGraceful, renderReport, toJson } from './table.ts'
import type { EngineName } from './world.ts'

const engines: readonly EngineName[] = ['docker', 'process']
const parts = ['kills', 'graceful', 'adoption'] as const
/** Requests across each graceful path. */
const gracefulRequests = 400
const adopted = { modules: 20, targetMs: 1_500 }

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      part: { type: 'string', multiple: true, default: [...parts] },
      engine: { type: 'string', multiple: true, default: [...engines] },
      kills: { type: 'string', default: '100' },
      seconds: { type: 'string', default: '600' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      faults: { type: 'string', default: '' },
      pace: { type: 'string', default: '1000' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const faults = values.faults.split(',').filter((name) => name !== '')
  const unknown = [
    ...faults.filter((name) => !allFaults.some((fault) => fault.name === name)),
    ...values.engine.filter((name) => !(engines as readonly string[]).includes(name)),
    ...values.part.filter((name) => !(parts as readonly string[]).includes(name)),
    ...[values.kills, values.seconds, values.seed, values.pace].filter((number) => !/^\d+$/.test(number)),
  ]
  if (values.help || unknown.length > 0) {
    console.error([...unknown.map((what) => `not known: ${what}`), usage()].join('\n'))
    return unknown.length > 0 ? 2 : 0
  }
  const say = (text: string): void => console.error(`chaos: ${text}`)
  const chosen = engines.filter((name) => values.engine.includes(name) && (name === 'process' || dockerAvailable))
  const seed = Number(values.seed)
  const results: Record<string, unknown> = { seed }
  const print = (table: string): void => {
    if (!values.json) console.log(`\n${table}`)
  }
  const stop = new AbortController()
  // What was begun is taken apart, and what was found is told.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.on(name, () => stop.abort())
  const { signal } = stop
  let missed = 0

  for (const engine of values.part.includes('kills') ? chosen : []) {
    if (signal.aborted) break
    if (signal.aborted) break
    say(`kills on ${engine}, seed ${seed}`)
    const [kills, seconds, paceMs] = [values.kills, values.seconds, values.pace].map(Number) as [number, number, number]
    const report = await runChaos({ engine, seed, faults, kills, seconds, paceMs, ownDaemon: true, say, signal })
    results[`kills on ${engine}`] = toJson(report)
    missed += report.violations.length
    print(renderReport(`${engine}, seed ${seed}`, report))
  }
  for (const engine of values.part.includes('graceful') ? chosen : []) {
    const done: GracefulResult[] = []
    for (const path of gracefulPaths) {
      if (signal.aborted) break
      if (signal.aborted) break
      say(`${path.name} on ${engine}`)
      done.push(await runGraceful(engine, path, gracefulRequests, signal))
    }
    results[`graceful on ${engine}`] = done
    missed += done.filter(({ failed }) => failed.length > 0).length
    print(renderGraceful(engine, done))
  }
  if (values.part.includes('adoption') && !signal.aborted && chosen.includes('docker')) {
    const adoption = await measureAdoption(adopted.modules, say)
    results.adoption = adoption
    if (adoption.allMs > adopted.targetMs || adoption.lost.length > 0) missed += 1
    print(renderAdoption(adoption, adopted.targetMs))
  }
  if (values.json) console.log(JSON.stringify(results, undefined, 2))
  return missed === 0 ? 0 : 1
}

function usage(): string {
  return [
    'npm run chaos -- [--part kills|graceful|adoption]... [--engine docker|process]... [--kills N] [--seconds N] [--seed N]',
    '                 [--faults a,b] [--pace MS] [--json]',
    '',
    'The kills end after so many (100) or so many seconds (600) of each engine. --pace: the longest pause between two faults (1000).',
    '',
    ...allFaults.map(({ name, about, engines: on }) => `  ${name.padEnd(20)} ${about} (${on.join(', ')})`),
  ].join('\n')
}

process.exitCode = await main()
