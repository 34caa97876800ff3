import { installVariable } from '../../constants.ts'
import type { InstallOrder } from '../../protocol.ts'
import { isRecord } from '../errors.ts'
import { InstallError } from './failure.ts'

/** The order in BERTH_INSTALL. Berth's own engines write it, so it is checked for presence and kind only. */
export function readOrder(text: string | undefined): InstallOrder {
  let order: unknown
  try {
    order = JSON.parse(text ?? '')
  } catch {
    throw new InstallError(`${installVariable} is not set, or not JSON`)
  }
  const fields = isRecord(order) ? order : {}
  const wrong = [
    ...['key', 'folder', 'module', 'gpu', 'cache'].filter((name) => typeof fields[name] !== 'string'),
    ...['file', 'python'].filter((name) => !['string', 'undefined'].includes(typeof fields[name])),
    ...(Array.isArray(fields.extra) ? [] : ['extra']),
  ]
  if (wrong.length > 0) throw new InstallError(`${installVariable}: missing or of a wrong kind: ${wrong.join(', ')}`)
  return order as InstallOrder
}
