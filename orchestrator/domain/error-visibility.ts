import type { ErrorBody } from './errors.ts'

/**
 * Tracebacks, and the last lines that a worker or an installer wrote (a crash leaves its traceback there), show a module's
 * source and paths: they are for admins only (module-formats, "inference result").
 */
const adminsOnly: ReadonlySet<string> = new Set(['traceback', 'lines'])

/** An error as whoever asked may see it. Nobody known: no admin. */
export function errorFor<E extends Pick<ErrorBody, 'details'>>(
  viewer: { readonly admin: boolean } | undefined,
  error: E,
): E | Omit<E, 'details'> {
  const { details, ...rest } = error
  if (viewer?.admin === true || details === undefined) return error
  const shown = Object.entries(details).filter(([key]) => !adminsOnly.has(key))
  return shown.length === 0 ? rest : { ...rest, details: Object.fromEntries(shown) }
}
