/**
 * `npm run bench -- [NAME...] [--json] [--full] [--seconds N] [--rounds N]`: Berth against named peers, each in the same
 * run on the same machine. Prints a table, or JSON, and keeps the JSON in bench/results/.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { cpus, loadavg, release } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { type Comparison, isMet, Missing, type Row } from './comparison.ts'
import { chunks } from './comparisons/chunks.ts'
import { decisions } from './comparisons/decisions.ts'
import { firstAnswer } from './comparisons/first-answer.ts'
import { footprint } from './comparisons/footprint.ts'
import { hop } from './comparisons/hop.ts'
import { install } from './comparisons/install.ts'
import { memory } from './comparisons/memory.ts'
import { requests } from './comparisons/requests.ts'
import { slowReader } from './comparisons/slow-reader.ts'
import { renderTable } from './table.ts'

const comparisons: readonly Comparison[] = [
  requests,
  chunks,
  hop,
  firstAnswer,
  install,
  memory,
  slowReader,
  footprint,
  decisions,
]

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
      seconds: { type: 'string', default: '3' },
      rounds: { type: 'string', default: '5' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const unknown = positionals.filter((name) => !comparisons.some((comparison) => comparison.name === name))
  if (values.help || unknown.length > 0) {
    if (unknown.length > 0) console.error(`unknown: ${unknown.join(', ')}\n`)
    console.error(usage())
    process.exitCode = unknown.length > 0 ? 2 : 0
    return
  }
  const say = (text: string) => console.error(`bench: ${text}`)
  const options = { seconds: Number(values.seconds), rounds: Number(values.rounds), full: values.full, say }
  const rows: Row[] = []
  const skipped: Record<string, string> = {}
  const failed: Record<string, string> = {}
  for (const comparison of comparisons) {
    const { name, about } = comparison
    if (positionals.length > 0 && !positionals.includes(name)) continue
    say(`${name}: ${about}`)
    try {
      rows.push(...(await comparison.run(options)))
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      const where = error instanceof Missing ? skipped : failed
      where[name] = reason
      say(`${name} ${error instanceof Missing ? 'skipped' : 'failed'}: ${reason}`)
    }
  }
  const report = {
    machine: {
      cpus: cpus().length,
      model: cpus()[0]?.model,
      kernel: release(),
      loadAverage: loadavg(),
      node: process.version,
    },
    rows: rows.map((row) => ({ ...row, ratio: row.peer && row.berth / row.peer.value, met: isMet(row) })),
    skipped,
    failed,
  }
  const json = JSON.stringify(report, undefined, 2)
  const folder = join(import.meta.dirname, 'results')
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${new Date().toISOString().replaceAll(/[:.]/g, '-')}.json`), `${json}\n`)
  console.log(values.json ? json : renderTable(rows))
  if (Object.keys(failed).length > 0) process.exitCode = 1
}

function usage(): string {
  const names = comparisons.map(({ name, about }) => `  ${name.padEnd(14)} ${about}`)
  return [
    'npm run bench -- [NAME...] [--json] [--full] [--seconds N] [--rounds N]',
    '',
    ...names,
    '',
    '--full      read the slow answer to its end (four minutes)',
    '--seconds   length of one measurement (3)',
    '--rounds    measurements of each side, taken in turns (5)',
  ].join('\n')
}

await main()
