import { type Logger, pino } from 'pino'
import { formatForPeople } from './pretty.ts'

export type { Logger }

export interface LoggerOptions {
  readonly level: 'debug' | 'info' | 'warn' | 'error' | 'silent'
  /** Where lines go; the process's standard error by default. */
  readonly output?: LogOutput
}

export interface LogOutput {
  readonly isTTY?: boolean
  write(text: string): unknown
}

/** Fields that hold secrets wherever they stand in a record, two levels deep. */
const secretFields = ['authorization', 'x-api-key', 'apiKey', 'adminKey', 'secret', 'token', 'password']
const secretPaths = secretFields.flatMap((field) => {
  const name = field.includes('-') ? `["${field}"]` : field
  const below = field.includes('-') ? name : `.${name}`
  return [name, `*${below}`, `*.*${below}`]
})

/** Berth's own keys are known by their look, so that one inside a message is not shown either. */
const ownKey = /berth_[\w-]{43}/g

/** JSON lines on standard error; lines for people when that is a terminal. Secrets are left out of both. */
export function createLogger(options: LoggerOptions): Logger {
  const settings = {
    level: options.level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: { paths: secretPaths, censor: '[secret]' },
    hooks: { streamWrite: (line: string) => (line.includes('berth_') ? line.replace(ownKey, '[secret]') : line) },
  }
  const output = options.output ?? process.stderr
  if (output.isTTY === true) {
    const colors = process.env.NO_COLOR === undefined
    return pino(settings, { write: (line) => output.write(formatForPeople(line, colors)) })
  }
  if (options.output !== undefined) return pino(settings, { write: (line) => output.write(line) })
  return pino(settings, pino.destination({ dest: 2, sync: true }))
}
