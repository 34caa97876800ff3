import type { PlainReply } from '../../module-runner/plain-http/plain-reply.ts'
import type { BerthError } from '../domain/errors.ts'
import type { Caller } from './auth/authenticator.ts'

/**
 * The short way of inferences, past fastify and Node's HTTP server, which take two thirds of what a request costs here. It
 * refuses nothing: a request that is odd in any way, not let in or not valid has not been touched when fastify gets it, so
 * that each refusal is written in one place.
 */
export interface PlainRoute {
  /** `/api/models/:name/infer`: one parameter. The same route is known to fastify. */
  readonly url: string
  /** Checks a body against the route's schema. */
  readonly isValid: (body: unknown) => boolean
  /** What it throws, before anything is written, is the answer. */
  readonly handle: (call: PlainCall) => void
}

export interface PlainCall {
  readonly id: string
  readonly caller: Caller
  readonly parameter: string
  readonly body: unknown
  readonly accept: string
  readonly reply: PlainReply
  /** Answers with an error; nothing may have been written. */
  refuse(error: BerthError, headers?: Readonly<Record<string, string>>): void
}
