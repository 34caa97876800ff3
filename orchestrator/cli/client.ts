import http from 'node:http'
import https from 'node:https'
import type { Socket } from 'node:net'
import { BerthError, isErrorCode } from '../domain/errors.ts'
import { isJsonObject, type JsonObject } from '../domain/json.ts'
import { BrokenConnectionError, CliError, UnreachableError } from './failures.ts'

/**
 * The HTTP API as the command uses it. Errors of the API are thrown as BerthErrors. There is no time limit on answers
 * (a first inference may install gigabytes); `signal` ends them. node:http, because it starts a command 40 ms sooner
 * than a fetch library and sets no limits of its own.
 */
export interface ApiClient {
  readonly url: string
  json<T>(method: Method, path: string, options?: RequestOptions): Promise<T>
  /** The lines of an NDJSON answer, parsed. Rejects early when the API refuses. */
  lines(method: Method, path: string, options?: RequestOptions): Promise<AsyncIterable<unknown>>
}

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE'

export interface RequestOptions {
  readonly body?: unknown
  readonly signal?: AbortSignal
  /** A status beside 2xx whose answer is no error body. */
  readonly alsoStatus?: number
}

const connectMs = 10_000

export function createClient(url: string, key: string | undefined): ApiClient {
  const base = parseUrl(url)
  return {
    url,
    async json<T>(method: Method, path: string, options: RequestOptions = {}) {
      const text = await readAll(await request(base, key, method, path, 'application/json', options), base)
      return (text === '' ? undefined : parseJson(text, base)) as T
    },
    async lines(method, path, options = {}) {
      return parseLines(await request(base, key, method, path, 'application/x-ndjson', options), base)
    },
  }
}

function parseUrl(url: string): URL {
  const parsed = URL.parse(url)
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new CliError(`BERTH_URL is no http address: ${url}`, 'Write it as http://127.0.0.1:8080.')
  }
  return parsed
}

/** Resolves with the answer once its headers are there and say success. */
function request(
  base: URL,
  key: string | undefined,
  method: Method,
  path: string,
  accept: string,
  { body, signal, alsoStatus }: RequestOptions,
): Promise<http.IncomingMessage> {
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
  const target = new URL(base.pathname.replace(/\/$/, '') + path, base)
  return new Promise((resolve, reject) => {
    const call = (base.protocol === 'https:' ? https : http).request(target, {
      method,
      headers: {
        accept,
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
        ...(payload === undefined ? {} : { 'content-type': 'application/json', 'content-length': payload.length }),
      },
      ...(signal === undefined ? {} : { signal }),
    })
    call.on('socket', limitConnecting)
    call.on('error', (error) => reject(signal?.aborted ? error : unreachable(base, error)))
    call.on('response', (answer) => {
      answer.setEncoding('utf8')
      const status = answer.statusCode ?? 0
      if ((status >= 200 && status < 300) || status === alsoStatus) resolve(answer)
      else readAll(answer, base).then((text) => reject(refusal(base, status, text)), reject)
    })
    call.end(payload)
  })
}

/** A host that swallows packets is told from one that computes: only connecting has a limit. */
function limitConnecting(socket: Socket): void {
  socket.setKeepAlive(true, 30_000)
  if (!socket.connecting) return
  const timer = setTimeout(() => socket.destroy(new Error(`no connection within ${connectMs / 1000} s`)), connectMs)
  socket.once('connect', () => clearTimeout(timer))
  socket.once('close', () => clearTimeout(timer))
}

function unreachable(base: URL, error: NodeJS.ErrnoException): Error {
  if (error.code === 'ECONNRESET' || error.code === 'EPIPE') return brokenOff(base, error)
  return new UnreachableError(
    `no orchestrator answers at ${base.origin} (${error.code ?? error.message})`,
    'Start one with `berth up`, or say where it is in BERTH_URL.',
    error,
  )
}

function brokenOff(base: URL, cause: unknown): CliError {
  return new BrokenConnectionError(
    `the connection to ${base.origin} broke before the answer was complete`,
    '`berth ps` shows whether Berth and the module are up.',
    cause,
  )
}

function refusal(base: URL, status: number, text: string): Error {
  const body = tryParse(text)
  const error = isJsonObject(body) && isJsonObject(body.error) ? body.error : undefined
  if (error === undefined || typeof error.message !== 'string') {
    return new CliError(`${base.origin} answered ${status} and is no Berth`, 'Look at BERTH_URL.')
  }
  return frameError(error)
}

/** The inside of an error body or of an error frame as the error that it was. A code of a newer Berth becomes INTERNAL. */
export function frameError(error: JsonObject): BerthError {
  const details = isJsonObject(error.details) ? error.details : {}
  return new BerthError(
    isErrorCode(error.code) ? error.code : 'INTERNAL',
    String(error.message),
    typeof error.requestId === 'string' ? { ...details, requestId: error.requestId } : details,
    { origin: error.origin === 'module' ? 'module' : 'orchestrator' },
  )
}

async function readAll(answer: http.IncomingMessage, base: URL): Promise<string> {
  const parts: string[] = []
  for await (const part of readParts(answer, base)) parts.push(part)
  return parts.join('')
}

async function* readParts(answer: http.IncomingMessage, base: URL): AsyncIterable<string> {
  try {
    yield* answer as AsyncIterable<string>
  } catch (error) {
    throw error instanceof Error && 'code' in error && error.code === 'ECONNRESET' ? brokenOff(base, error) : error
  }
}

async function* parseLines(answer: http.IncomingMessage, base: URL): AsyncIterable<unknown> {
  let pending = ''
  for await (const part of readParts(answer, base)) {
    let start = 0
    for (let end = part.indexOf('\n'); end !== -1; end = part.indexOf('\n', start)) {
      const line = pending + part.slice(start, end)
      pending = ''
      start = end + 1
      if (line.trim() !== '') yield parseJson(line, base)
    }
    pending += part.slice(start)
  }
  if (pending.trim() !== '') yield parseJson(pending, base)
}

function parseJson(text: string, base: URL): unknown {
  const value = tryParse(text)
  if (value === undefined) throw new CliError(`${base.origin} answered something that is no JSON`, 'Look at BERTH_URL.')
  return value
}

function tryParse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
