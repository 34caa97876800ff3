import { median } from '../../bench/statistics.ts'
import type { Adoption } from './adoption.ts'
import type { GracefulResult } from './graceful.ts'
import type { Invariant, Report } from './report.ts'

/** What a run came to, as text in columns and as JSON. */
const invariants: readonly Invariant[] = [
  'orphan',
  'double generation',
  'not ready again',
  'lost desired state',
  'lease not given back',
  'stuck',
  'unexplained failure',
]

export function renderReport(title: string, report: Report): string {
  const faults = [...report.faults].sort(([a], [b]) => (a < b ? -1 : 1))
  const outcomes = [...report.outcomes].sort(([, a], [, b]) => b - a)
  return [
    `${title}: ${report.kills} kills, ${report.requests()} requests, ${Math.round(report.seconds)} s`,
    ...report.notes,
    '',
    columns([
      ['fault', 'times', 'kills', 'answers again: median', 'longest'],
      ...faults.map(([name, { times, kills, recoveriesMs }]) => [
        name,
        String(times),
        String(kills),
        seconds(median(recoveriesMs)),
        seconds(Math.max(...recoveriesMs)),
      ]),
    ]),
    '',
    columns([['requests', 'count'], ...outcomes.map(([name, count]) => [name, String(count)])]),
    '',
    columns([
      ['invariant', 'broken'],
      ...invariants.map((name) => [name, String(report.violations.filter((each) => each.invariant === name).length)]),
    ]),
    ...report.violations.map(({ invariant, what, atSeconds }) => `  ${invariant} at ${atSeconds} s: ${what}`),
  ].join('\n')
}

export function renderGraceful(engine: string, results: readonly GracefulResult[]): string {
  return [
    `on purpose, on ${engine}`,
    columns([
      [
        'what',
        'times',
        'requests',
        'failed',
        'told to come later',
        'found nobody',
        'reset at the door',
        'told that it is disabled',
      ],
      ...results.map((result) => [
        result.path,
        ...[result.times, result.requests, result.failed.length].map(String),
        ...[result.toldToComeLater, result.foundNobody, result.resetAtTheDoor, result.refusedAsAsked].map(String),
      ]),
    ]),
    ...results.flatMap(({ path, failed }) => failed.map((what) => `  ${path}: ${what}`)),
  ].join('\n')
}

export function renderAdoption({ modules, firstMs, allMs, lost }: Adoption, targetMs: number): string {
  const row = [`kill -9 of the orchestrator, ${modules} modules on Docker`, seconds(firstMs), seconds(allMs)]
  return [
    columns([
      ['what', 'first answer', 'all answer', 'target', 'met'],
      [...row, `<= ${seconds(targetMs)}`, allMs <= targetMs && lost.length === 0 ? 'yes' : 'no'],
    ]),
    ...lost.map((replica) => `  not taken over: ${replica}`),
  ].join('\n')
}

export function toJson(report: Report): object {
  return {
    kills: report.kills,
    seconds: report.seconds,
    notes: report.notes,
    faults: Object.fromEntries(report.faults),
    requests: Object.fromEntries(report.outcomes),
    violations: report.violations,
  }
}

function columns(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  const [head, ...rest] = rows
  return [line(head ?? []), widths.map((width) => '-'.repeat(width)).join('  '), ...rest.map(line)].join('\n')
}

function seconds(ms: number): string {
  return Number.isFinite(ms) ? `${(ms / 1000).toFixed(1)} s` : ''
}
