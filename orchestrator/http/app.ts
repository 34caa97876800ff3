import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import type { FastifyBaseLogger, FastifyInstance } from 'fastify'
import type { Access, Caller } from './auth/authenticator.ts'
import type { PlainRoute } from './plain-route.ts'

/** The fastify app that routes are written against: TypeBox schemas type the handlers. */
export type App = FastifyInstance<Server, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access
    /** Goes on answering while the server drains. The default: what reads (GET, HEAD) does, what changes does not. */
    whileDraining?: boolean
  }
  interface FastifyRequest {
    /** Set before any handler runs. */
    caller: Caller
  }
  interface FastifyInstance {
    /** From now on new work gets SHUTTING_DOWN; health and reads still answer. */
    drain(): void
    isDraining(): boolean
    /** Ends what goes on for a caller, inferences apart. */
    endStreamsOf(caller: string): void
    /** A shorter way to a route of this app, for requests that are plain. */
    plainRoute(route: PlainRoute): void
  }
}
