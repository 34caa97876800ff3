/** A JSON log line as one line for people: `12:03:09 warn  message  module=ocr`. */
export function formatForPeople(line: string, colors: boolean): string {
  let record: Record<string, unknown>
  try {
    record = JSON.parse(line) as Record<string, unknown>
  } catch {
    return line
  }
  const { level, time, msg, err, ...fields } = record
  const clock = typeof time === 'string' ? time.slice(11, 19) : ''
  const extra = Object.entries(fields).map(([name, value]) => dim(` ${name}=`, colors) + shown(value))
  const text = typeof msg === 'string' ? msg : ''
  return `${dim(clock, colors)} ${levelName(String(level), colors)} ${text}${extra.join('')}\n${stackOf(err)}`
}

const hues: Readonly<Record<string, number>> = { debug: 36, info: 32, warn: 33, error: 31, fatal: 31 }

function levelName(level: string, colors: boolean): string {
  const padded = level.padEnd(5)
  const hue = hues[level]
  return colors && hue !== undefined ? `\u001b[${hue}m${padded}\u001b[39m` : padded
}

function dim(text: string, colors: boolean): string {
  return colors ? `\u001b[2m${text}\u001b[22m` : text
}

function shown(value: unknown): string {
  if (typeof value !== 'string') return JSON.stringify(value)
  return /^[^\s"]+$/.test(value) ? value : JSON.stringify(value)
}

function stackOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('stack' in error)) return ''
  return `${String(error.stack).replace(/^/gm, '    ')}\n`
}
