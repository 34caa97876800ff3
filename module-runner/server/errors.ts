import type { WireError } from '../protocol.ts'

/**
 * Errors of the runner and of its module, and the HTTP status of each code. The orchestrator has the whole table; here are
 * the codes that can arise in a module container.
 */
const rows: Readonly<Record<string, { readonly status: number; readonly retryable?: true }>> = {
  REQUEST_INVALID: { status: 400 },
  UNAUTHORIZED: { status: 401 },
  FORBIDDEN: { status: 403 },
  NOT_FOUND: { status: 404 },
  MODEL_NOT_FOUND: { status: 404 },
  METHOD_NOT_ALLOWED: { status: 405 },
  PAYLOAD_TOO_LARGE: { status: 413 },
  MANIFEST_INVALID: { status: 422 },
  DEPENDENCY_MISSING: { status: 422 },
  MODULE_BUSY: { status: 429, retryable: true },
  INTERNAL: { status: 500 },
  ENGINE_UNSUPPORTED: { status: 501 },
  WORKLOAD_EXITED: { status: 502, retryable: true },
  RUNNER_UNREACHABLE: { status: 502, retryable: true },
  SHUTTING_DOWN: { status: 503, retryable: true },
}

export type Details = Readonly<Record<string, unknown>>

/** HTTP status of a code; 502 for those that a module makes up. */
export function statusOf(code: string): number {
  return rows[code]?.status ?? 502
}

export class RunnerError extends Error {
  override readonly name = 'RunnerError'
  readonly code: string
  readonly details: Details

  constructor(code: string, message: string, details: Details = {}) {
    super(message)
    this.code = code
    this.details = details
  }

  get status(): number {
    return statusOf(this.code)
  }

  toWire(): WireError {
    return {
      code: this.code,
      message: this.message,
      retryable: rows[this.code]?.retryable ?? false,
      origin: 'module',
      ...(Object.keys(this.details).length === 0 ? {} : { details: this.details }),
    }
  }

  /** An error as the worker sent it: `{"code","message","details"?}`. */
  static fromWire(value: unknown, fallback: string): RunnerError {
    const error = isRecord(value) ? value : {}
    const code = typeof error.code === 'string' ? error.code : fallback
    const message =
      typeof error.message === 'string' && error.message !== '' ? error.message : 'the module gave no reason'
    return new RunnerError(code, message, isRecord(error.details) ? error.details : {})
  }
}

export function toRunnerError(error: unknown): RunnerError {
  if (error instanceof RunnerError) return error
  return new RunnerError('INTERNAL', `An error inside the module runner: ${messageOf(error)}`)
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The code of a system call's error, such as `ENOENT`. */
export function systemCode(error: unknown): string | undefined {
  return isRecord(error) && typeof error.code === 'string' ? error.code : undefined
}

export function shuttingDown(module: string): RunnerError {
  return new RunnerError('SHUTTING_DOWN', `Module ${module} is shutting down.`)
}
