/**
 * How errors leave over HTTP: whatever was thrown becomes a BerthError, then one body, one status and one set of headers.
 */
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { errorFor } from '../domain/error-visibility.ts'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { Caller } from './auth/authenticator.ts'
import { requestId } from './request-id.ts'

/** Whole seconds that a retryable answer asks to wait, where its details have no `retryAfterSeconds` of their own. */
const retryAfterSeconds: Partial<Record<BerthError['code'], number>> = {
  ENGINE_UNAVAILABLE: 5,
  GPU_UNAVAILABLE: 5,
  SHUTTING_DOWN: 5,
}

/** Headers that belong to an error: `Retry-After` on those that may pass, `x-should-retry: false` on all others. */
export function errorHeaders(error: BerthError): Record<string, string> {
  if (error.retryable) {
    const told = error.details.retryAfterSeconds
    const seconds = typeof told === 'number' && Number.isFinite(told) ? told : (retryAfterSeconds[error.code] ?? 1)
    return { 'retry-after': String(Math.max(1, Math.ceil(seconds))) }
  }
  const headers: Record<string, string> = { 'x-should-retry': 'false' }
  if (error.code === 'UNAUTHORIZED') headers['www-authenticate'] = 'Bearer'
  if (error.code === 'METHOD_NOT_ALLOWED' && Array.isArray(error.details.allow))
    headers.allow = error.details.allow.join(', ')
  return headers
}

/**
 * `{"error":{...}}` as JSON, as its caller may see it. Details that are no JSON (a cycle, a BigInt) are left out instead of
 * failing the answer.
 */
export function errorJson(error: BerthError, caller: Caller | undefined, id?: string): string {
  const body = errorFor(caller, error.toBody(id))
  try {
    return JSON.stringify({ error: body })
  } catch {
    const { details: _unprintable, ...rest } = error.toBody(id)
    return JSON.stringify({ error: rest })
  }
}

/**
 * Answers with an error; takes anything thrown. After the first byte of an answer there is no status left to give:
 * the connection is then cut, so that the client sees a broken answer and not a complete one.
 */
export function sendError(reply: FastifyReply, thrown: unknown): FastifyReply {
  const error = toHttpError(thrown)
  logError(reply.log, reply.request, error)
  if (reply.raw.headersSent || reply.raw.destroyed) {
    reply.raw.destroy()
    return reply
  }
  return reply
    .code(error.status)
    .header('x-request-id', requestId(reply.request))
    .headers(errorHeaders(error))
    .type('application/json; charset=utf-8')
    .send(errorJson(error, reply.request.caller, requestId(reply.request)))
}

export function logError(
  log: Pick<FastifyBaseLogger, 'error' | 'warn' | 'debug'>,
  { id, method, url }: Pick<FastifyRequest, 'id' | 'method' | 'url'>,
  error: BerthError,
): void {
  const record = { requestId: id, method, url: url.slice(0, 200), code: error.code }
  if (error.code === 'INTERNAL') log.error({ ...record, err: error.cause ?? error }, error.message)
  else if (error.status >= 500) log.warn(record, error.message)
  else log.debug(record, error.message)
}

interface FrameworkError {
  readonly code?: unknown
  readonly statusCode?: unknown
  readonly message?: unknown
  readonly validation?: readonly ValidationProblem[]
  readonly validationContext?: string
}

interface ValidationProblem {
  readonly keyword: string
  readonly instancePath: string
  readonly params: Readonly<Record<string, unknown>>
  readonly message?: string
}

/** Fastify's own refusals in the words and codes of the table; everything else as `toBerthError` has it. */
export function toHttpError(thrown: unknown): BerthError {
  if (thrown instanceof BerthError) return thrown
  if (typeof thrown !== 'object' || thrown === null) return toBerthError(thrown)
  const error = thrown as FrameworkError
  if (error.validation?.[0] !== undefined)
    return schemaViolation(error.validation[0], error.validationContext ?? 'body')
  switch (error.code) {
    case 'ECONNRESET':
    case 'ABORT_ERR':
      return new BerthError('CLIENT_CLOSED', 'The client closed the connection.', {}, { cause: thrown })
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new BerthError('REQUEST_INVALID', 'The body is shorter or longer than its Content-Length says.')
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return wrongContentType(undefined)
    case 'FST_ERR_BAD_URL':
      return new BerthError(
        'REQUEST_INVALID',
        'The path of the request is not a valid URL: check its percent-encoding.',
      )
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new BerthError('REQUEST_INVALID', "A part of the request's path is longer than any name in Berth may be.")
  }
  if (typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500) {
    return new BerthError('REQUEST_INVALID', String(error.message), {}, { cause: thrown })
  }
  return toBerthError(thrown)
}

/** 413 with the limit and where to raise it. */
export function payloadTooLarge(limitBytes: number): BerthError {
  return new BerthError('PAYLOAD_TOO_LARGE', `The body is larger than the limit of ${limitBytes} bytes.`, {
    limitBytes,
    setting: 'body_limit',
    remedy: 'Send less, or raise `body_limit` in berth.yaml (BERTH_BODY_LIMIT).',
  })
}

export function wrongContentType(got: string | undefined): BerthError {
  const what = got === undefined ? 'no Content-Type that Berth reads here' : `Content-Type ${got.slice(0, 100)}`
  return new BerthError('REQUEST_INVALID', `The body has ${what}; it must be application/json.`, {
    field: 'content-type',
    remedy: 'Send the header `Content-Type: application/json`.',
  })
}

export function routeNotFound(request: FastifyRequest): BerthError {
  return new BerthError('NOT_FOUND', `There is no ${request.method} ${path(request)}.`, {
    remedy: 'GET /openapi.json lists every route.',
  })
}

export function methodNotAllowed(request: FastifyRequest, allow: readonly string[]): BerthError {
  return new BerthError(
    'METHOD_NOT_ALLOWED',
    `${path(request)} does not take ${request.method}; it takes ${allow.join(', ')}.`,
    {
      allow,
    },
  )
}

function path(request: FastifyRequest): string {
  const end = request.url.indexOf('?')
  return (end === -1 ? request.url : request.url.slice(0, end)).slice(0, 200)
}

function schemaViolation(problem: ValidationProblem, context: string): BerthError {
  const where = context === 'querystring' ? 'query' : context === 'params' ? 'path' : context
  const parts = problem.instancePath
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const extra = problem.params.additionalProperty ?? problem.params.missingProperty
  const field = [...parts, ...(typeof extra === 'string' ? [extra] : [])].join('.')
  const said =
    problem.keyword === 'additionalProperties'
      ? 'is not known here'
      : problem.keyword === 'required'
        ? 'is missing'
        : (problem.message ?? 'is not valid')
  const allowed = Array.isArray(problem.params.allowedValues) ? `: ${problem.params.allowedValues.join(', ')}` : ''
  const message =
    field === ''
      ? `The ${where} of the request ${said}${allowed}.`
      : `\`${field}\` in the ${where} of the request ${said}${allowed}.`
  return new BerthError('REQUEST_INVALID', message, { in: where, ...(field === '' ? {} : { field }) })
}
