import { defaultPort, runnerVariables } from '../constants.ts'
import type { RunnerConfiguration } from '../protocol.ts'
import { isRecord, messageOf, RunnerError } from './errors.ts'
import { parseExact } from './exact-json.ts'

/** What the runner's environment variables say. */
export interface Settings {
  readonly listen: { readonly socket: string } | { readonly port: number }
  readonly token?: string
  readonly exitWithStdin: boolean
  readonly bodyLimit: number
  readonly module: RunnerConfiguration
}

type Environment = Readonly<Record<string, string | undefined>>

/** Throws CONFIG_INVALID naming the variable. */
export function readSettings(env: Environment): Settings {
  const socket = env[runnerVariables.socket]
  const token = env[runnerVariables.token]
  return {
    listen: socket ? { socket } : { port: integer(env, runnerVariables.port, defaultPort, 65_535) },
    ...(token ? { token } : {}),
    exitWithStdin: env[runnerVariables.exitWithStdin] === '1',
    bodyLimit: integer(env, runnerVariables.bodyLimit, 256 * 1024 * 1024, 2 ** 32 - 16),
    module: readModule(env[runnerVariables.module]),
  }
}

function integer(env: Environment, name: string, byDefault: number, most: number): number {
  const text = env[name]
  if (text === undefined || text === '') return byDefault
  const value = Number(text)
  if (Number.isInteger(value) && value >= 0 && value <= most) return value
  throw new RunnerError('CONFIG_INVALID', `${name} is ${JSON.stringify(text)}; it takes a whole number up to ${most}.`)
}

/** Berth's own engines write this variable, so it is checked for presence and kind only, field by field. */
function readModule(text: string | undefined): RunnerConfiguration {
  const name = runnerVariables.module
  if (!text) throw new RunnerError('CONFIG_INVALID', `${name} is not set; it tells the runner its module as JSON.`)
  let value: unknown
  try {
    value = parseExact(text)
  } catch (error) {
    throw new RunnerError('CONFIG_INVALID', `${name} is not JSON: ${messageOf(error)}`)
  }
  const module = isRecord(value) ? value : {}
  const paths = isRecord(module.paths) ? module.paths : {}
  const wrong = [
    ...['id', 'format', 'entry', 'onDisconnect'].filter((field) => typeof module[field] !== 'string'),
    ...['drainMs', 'callMs'].filter((field) => typeof module[field] !== 'number'),
    ...(isRecord(module.models) ? [] : ['models']),
    ...(Array.isArray(module.calls) ? [] : ['calls']),
    ...['module', 'data', 'cache'].filter((field) => typeof paths[field] !== 'string').map((field) => `paths.${field}`),
  ]
  if (wrong.length > 0)
    throw new RunnerError('CONFIG_INVALID', `${name}: missing or of a wrong kind: ${wrong.join(', ')}.`)
  return value as RunnerConfiguration
}
