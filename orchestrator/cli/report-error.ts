import { BerthError } from '../domain/errors.ts'
import { CliError } from './failures.ts'

/**
 * An error for people: `berth: <message>`, then what the details say, a line each. A traceback only when `verbose`.
 * Everything goes to stderr, so that a failed command leaves standard output empty.
 */
export function describeError(error: unknown, verbose: boolean): string {
  if (error instanceof BerthError) return [`berth: ${error.message}`, ...detailLines(error, verbose)].join('\n')
  if (error instanceof CliError)
    return [`berth: ${error.message}`, ...(error.remedy ? [`  ${error.remedy}`] : [])].join('\n')
  if (error instanceof Error) return `berth: ${verbose ? (error.stack ?? error.message) : error.message}`
  return `berth: ${String(error)}`
}

/** Keys that are for programs, or that are shown in a place of their own. */
const hidden = new Set(['remedy', 'traceback', 'requestId', 'retryAfterSeconds', 'in'])

function detailLines(error: BerthError, verbose: boolean): readonly string[] {
  const { remedy, traceback, requestId } = error.details
  return [
    `  code: ${error.code}`,
    ...Object.entries(error.details)
      .filter(([key]) => !hidden.has(key))
      .flatMap(([key, value]) => detail(key, value)),
    ...(typeof remedy === 'string' ? [`  ${remedy}`] : []),
    ...(verbose && typeof requestId === 'string' ? [`  request: ${requestId}`] : []),
    ...traces(traceback, verbose),
  ]
}

function traces(traceback: unknown, verbose: boolean): readonly string[] {
  if (traceback === undefined) return []
  if (!verbose) return ['  (--verbose shows the traceback)']
  return detail('traceback', typeof traceback === 'string' ? traceback.trimEnd().split('\n') : traceback)
}

function detail(key: string, value: unknown): readonly string[] {
  if (value === undefined || value === null || value === '') return []
  if (typeof value === 'string' && value.includes('\n')) return detail(key, value.trimEnd().split('\n'))
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean')
    return [`  ${key}: ${value}`]
  if (Array.isArray(value)) {
    if (value.length === 0) return []
    // Names stand side by side, sentences and output below one another.
    if (value.every((item) => typeof item === 'string' && !item.includes(' '))) return [`  ${key}: ${value.join(', ')}`]
    return [`  ${key}:`, ...value.map((item) => `    | ${problem(item)}`)]
  }
  return [`  ${key}: ${JSON.stringify(value)}`]
}

/** `berth.yaml:3:5 modles: unknown key`, the form of configuration and manifest problems. */
function problem(item: unknown): string {
  if (typeof item === 'string') return item
  if (typeof item !== 'object' || item === null || !('message' in item)) return JSON.stringify(item)
  const { file, line, column, field, message } = item as Record<string, unknown>
  const place = [file, line, column].filter((part) => part !== undefined && part !== '').join(':')
  const head = [place, field].filter((part) => part !== undefined && part !== '').join(' ')
  return head === '' ? String(message) : `${head}: ${message}`
}
