/**
 * The one error class and the one table of codes. Every error that a user or another program sees is a row here.
 */

/** status: HTTP status of the answer. retryable: whether the same request may succeed later without a change. */
interface ErrorRow {
  readonly status: number
  readonly retryable: boolean
}

const row = (status: number, retryable = false): ErrorRow => ({ status, retryable })

export const errorTable = {
  REQUEST_INVALID: row(400),
  UNAUTHORIZED: row(401),
  FORBIDDEN: row(403),
  NOT_FOUND: row(404),
  MODULE_NOT_FOUND: row(404),
  MODEL_NOT_FOUND: row(404),
  METHOD_NOT_ALLOWED: row(405),
  MODULE_DISABLED: row(409),
  PAYLOAD_TOO_LARGE: row(413),
  MANIFEST_INVALID: row(422),
  DEPENDENCY_MISSING: row(422),
  DEPENDENCY_CONFLICT: row(422),
  DEPENDENCY_CYCLE: row(422),
  MODULE_BUSY: row(429, true),
  CLIENT_CLOSED: row(499),
  INTERNAL: row(500),
  CONFIG_INVALID: row(500),
  ENGINE_UNSUPPORTED: row(501),
  IMAGE_UNAVAILABLE: row(502),
  REQUIREMENTS_FAILED: row(502),
  WORKLOAD_EXITED: row(502, true),
  RUNNER_UNREACHABLE: row(502, true),
  RUNNER_PROTOCOL: row(502),
  LOAD_FAILED: row(502),
  INFERENCE_FAILED: row(502),
  STREAM_INTERRUPTED: row(502),
  OUT_OF_MEMORY: row(502),
  ENGINE_UNAVAILABLE: row(503, true),
  GPU_UNAVAILABLE: row(503, true),
  SHUTTING_DOWN: row(503, true),
  START_TIMEOUT: row(504, true),
  LOAD_TIMEOUT: row(504),
  INFERENCE_TIMEOUT: row(504),
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof errorTable

/** What an error says besides its message: module, file, field, remedy, lines of output... Plain JSON. */
export type ErrorDetails = Readonly<Record<string, unknown>>

/** Who failed: Berth itself, or the code of a module. */
export type ErrorOrigin = 'orchestrator' | 'module'

/** The wire form of an error, in a body (with requestId) and in a stream's error frame (without). */
export interface ErrorBody {
  readonly code: ErrorCode
  readonly message: string
  readonly retryable: boolean
  readonly origin: ErrorOrigin
  readonly requestId?: string
  readonly details?: ErrorDetails
}

export interface BerthErrorOptions {
  readonly cause?: unknown
  readonly origin?: ErrorOrigin
}

/** An error with a code of the table. The message says what happened, to which module, and what to do. */
export class BerthError extends Error {
  override readonly name = 'BerthError'
  readonly code: ErrorCode
  readonly details: ErrorDetails
  readonly origin: ErrorOrigin

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options: BerthErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.details = details
    this.origin = options.origin ?? 'orchestrator'
  }

  get status(): number {
    return errorTable[this.code].status
  }

  get retryable(): boolean {
    return errorTable[this.code].retryable
  }

  toBody(requestId?: string): ErrorBody {
    return {
      code: this.code,
      message: this.message,
      retryable: this.retryable,
      origin: this.origin,
      ...(requestId === undefined ? {} : { requestId }),
      ...(Object.keys(this.details).length === 0 ? {} : { details: this.details }),
    }
  }
}

export function isErrorCode(code: unknown): code is ErrorCode {
  return typeof code === 'string' && Object.hasOwn(errorTable, code)
}

/** Any thrown value as a BerthError; one that is none becomes INTERNAL and keeps its cause. */
export function toBerthError(error: unknown): BerthError {
  if (error instanceof BerthError) return error
  const message = error instanceof Error ? error.message : String(error)
  return new BerthError('INTERNAL', `An error inside Berth: ${message}`, {}, { cause: error })
}

/**
 * What a module may say went wrong with it, with its request, or with a call of its own to another model. The rest of the
 * table is Berth's to say: a module's UNAUTHORIZED would send clients looking for another key.
 */
const moduleCodes: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'REQUEST_INVALID',
  'FORBIDDEN',
  'MODULE_NOT_FOUND',
  'MODEL_NOT_FOUND',
  'MODULE_DISABLED',
  'PAYLOAD_TOO_LARGE',
  'MANIFEST_INVALID',
  'DEPENDENCY_MISSING',
  'DEPENDENCY_CONFLICT',
  'DEPENDENCY_CYCLE',
  'MODULE_BUSY',
  'INTERNAL',
  'ENGINE_UNSUPPORTED',
  'REQUIREMENTS_FAILED',
  'WORKLOAD_EXITED',
  'RUNNER_UNREACHABLE',
  'RUNNER_PROTOCOL',
  'LOAD_FAILED',
  'INFERENCE_FAILED',
  'STREAM_INTERRUPTED',
  'OUT_OF_MEMORY',
  'GPU_UNAVAILABLE',
  'SHUTTING_DOWN',
  'LOAD_TIMEOUT',
  'INFERENCE_TIMEOUT',
])

/**
 * The error of an image's or module's own body: its code is kept when it is one that a module may claim, else it becomes
 * `fallback`. (runner-protocol, architecture "Errors")
 */
export function fromModuleError(
  body: unknown,
  fallback: 'LOAD_FAILED' | 'INFERENCE_FAILED',
  context: ErrorDetails = {},
): BerthError {
  const error = isRecord(body) && isRecord(body.error) ? body.error : isRecord(body) ? body : {}
  const code = isErrorCode(error.code) && moduleCodes.has(error.code) ? error.code : fallback
  const message =
    typeof error.message === 'string' && error.message !== '' ? error.message : 'the module gave no reason'
  const details = isRecord(error.details) ? error.details : {}
  return new BerthError(code, message, { ...context, ...details }, { origin: 'module' })
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
