import { BerthError } from '../../domain/errors.ts'

/**
 * What can go wrong between Berth and the daemon: it can't be reached (a BerthError that says what to do), or it
 * answers and refuses (a DaemonRefusal, which callers turn into an error of their own subject).
 */
export class DaemonRefusal extends Error {
  override readonly name = 'DaemonRefusal'
  readonly status: number

  /** `message`: the daemon's own words. */
  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export function isRefusal(error: unknown, ...statuses: readonly number[]): error is DaemonRefusal {
  return error instanceof DaemonRefusal && (statuses.length === 0 || statuses.includes(error.status))
}

/** Anything that dockerode throws. BerthErrors pass: they come from streams that were being sent. */
export function fromVendor(error: unknown, address: string): unknown {
  if (error instanceof BerthError || !(error instanceof Error)) return error
  const { statusCode, json, code } = error as Error & { statusCode?: unknown; json?: unknown; code?: unknown }
  if (typeof statusCode === 'number') return new DaemonRefusal(statusCode, wordsOf(json) ?? error.message.trim())
  return unreachable(address, typeof code === 'string' ? code : '', error)
}

function wordsOf(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null || !('message' in body)) return undefined
  return typeof body.message === 'string' ? body.message.trim() : undefined
}

/** Why there is no answer, by the system's error code, and what helps. */
function unreachable(address: string, code: string, cause: Error): BerthError {
  const [what, remedy] = explain(address, code, cause)
  return new BerthError('ENGINE_UNAVAILABLE', `Docker can't be reached: ${what}`, { address, remedy }, { cause })
}

function explain(address: string, code: string, cause: Error): readonly [what: string, remedy: string] {
  switch (code) {
    case 'EACCES':
    case 'EPERM':
      return [
        `this user may not use ${address}`,
        'add the user to the group that owns the socket (`sudo usermod -aG docker "$USER"`, then log in again), or set `engine: process`',
      ]
    case 'ENOENT':
      return [`there is no ${address}`, 'install and start Docker, set DOCKER_HOST, or set `engine: process`']
    case 'ECONNREFUSED':
      return [
        `nothing listens at ${address}`,
        'start the daemon (`sudo systemctl start docker`), correct DOCKER_HOST, or set `engine: process`',
      ]
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return [`the host of ${address} is unknown`, 'correct DOCKER_HOST']
  }
  if (code.startsWith('ERR_TLS') || code.startsWith('ERR_SSL') || code.includes('CERT')) {
    return [
      `TLS with ${address} fails: ${cause.message}`,
      'check DOCKER_CERT_PATH (ca.pem, cert.pem, key.pem) and DOCKER_TLS_VERIFY',
    ]
  }
  return [`${address}: ${cause.message || code}`, 'see whether the daemon runs (`docker info`)']
}

/** A refusal about a module: which step, and the daemon's own words. */
export function refused(error: DaemonRefusal, step: string, module: string): BerthError {
  const details = { module, daemon: error.message }
  if (/no space left on device/i.test(error.message)) {
    return new BerthError(
      'ENGINE_UNAVAILABLE',
      `Docker's disk is full, so it can't ${step} module ${module}: ${error.message}`,
      { ...details, remedy: 'free space, for example with `docker system prune`' },
      { cause: error },
    )
  }
  return new BerthError('WORKLOAD_EXITED', `Docker can't ${step} module ${module}: ${error.message}`, details, {
    cause: error,
  })
}
