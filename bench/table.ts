import { isMet, measured, type Row, type Target } from './comparison.ts'

/** The rows as text, in columns. */
export function renderTable(rows: readonly Row[]): string {
  const head = ['what', 'Berth', 'peer', '', 'ratio', 'target', 'met']
  const lines = rows.map((row) => [
    row.what,
    shown(row.berth, row.unit),
    row.peer?.name ?? '',
    row.peer === undefined ? '' : shown(row.peer.value, row.unit),
    row.peer === undefined ? '' : `${number(row.berth / row.peer.value)}x`,
    row.target === undefined ? '' : target(row.target, row.unit),
    verdict(row),
  ])
  const widths = head.map((title, column) =>
    Math.max(title.length, ...lines.map((line) => (line[column] ?? '').length)),
  )
  const render = (line: readonly string[]) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd()
  return [render(head), widths.map((width) => '-'.repeat(width)).join('  '), ...lines.map(render)].join('\n')
}

function verdict(row: Row): string {
  const met = isMet(row)
  if (met === undefined) return ''
  if (met) return 'yes'
  const value = row.target === undefined ? undefined : measured(row, row.target.of)
  return row.target?.of === 'difference' && value !== undefined ? `no (${shown(value, row.unit)})` : 'no'
}

function target({ of, at, bound }: Target, unit: string): string {
  const sign = at === 'least' ? '>=' : '<='
  if (of === 'ratio') return `${sign} ${bound}x`
  return `${of === 'difference' ? 'added ' : ''}${sign} ${shown(bound, unit)}`
}

function shown(value: number, unit: string): string {
  return `${number(value)} ${unit}`
}

function number(value: number): string {
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en-US')
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}
