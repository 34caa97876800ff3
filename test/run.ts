/**
 * `npm test`: the checks (format and lint, types, import rules), then every vitest project. With arguments, only vitest,
 * with those arguments. Ends with one line of counts; says what was skipped for want of Docker.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const bin = (name: string) => join(root, 'node_modules', name)

const checks: readonly { readonly name: string; readonly args: readonly string[] }[] = [
  { name: 'format and lint', args: [bin('@biomejs/biome/bin/biome'), 'ci', '--error-on-warnings', '.'] },
  { name: 'types', args: [bin('typescript/bin/tsc'), '--noEmit', '-p', root] },
  {
    name: 'import rules',
    args: [
      bin('dependency-cruiser/bin/dependency-cruiser.mjs'),
      '--config',
      '.dependency-cruiser.mjs',
      '--output-type',
      'err',
      'orchestrator',
      'module-runner',
      'test',
      'bench',
    ],
  },
]

const counts = { passed: 0, failed: 0, skipped: 0 }
const args = process.argv.slice(2)

if (args.length === 0) for (const check of checks) count(run(check.name, check.args))
runTests(args)

process.stdout.write(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`)
process.exit(counts.failed === 0 ? 0 : 1)

function run(name: string, command: readonly string[]): boolean {
  const began = Date.now()
  const { status } = spawnSync(process.execPath, command, { cwd: root, stdio: 'inherit' })
  process.stdout.write(`${status === 0 ? 'ok' : 'FAILED'}: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)\n`)
  return status === 0
}

function count(passed: boolean): void {
  if (passed) counts.passed += 1
  else counts.failed += 1
}

function runTests(extra: readonly string[]): void {
  const folder = mkdtempSync(join(tmpdir(), 'berth-test-'))
  const file = join(folder, 'report.json')
  const ok = run('tests', [
    bin('vitest/vitest.mjs'),
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${file}`,
    ...extra,
  ])
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as VitestReport
    counts.passed += report.numPassedTests
    counts.failed += report.numFailedTests
    counts.skipped += report.numPendingTests + report.numTodoTests
    if (!ok && report.numFailedTests === 0) counts.failed += 1
  } catch {
    counts.failed += 1
  }
  rmSync(folder, { recursive: true, force: true })
  if (counts.skipped > 0)
    process.stdout.write(
      'Skipped tests need a Docker daemon, promtool, or another version of Python, that this machine lacks.\n',
    )
}

interface VitestReport {
  readonly numPassedTests: number
  readonly numFailedTests: number
  readonly numPendingTests: number
  readonly numTodoTests: number
}
