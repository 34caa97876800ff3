import type { Server } from 'node:http'
import type { FastifyInstance } from 'fastify'
import type { RunnerConfiguration } from '../protocol.ts'
import type { CallBook } from './calls.ts'
import type { MemoryCare } from './memory.ts'
import type { ModelGate } from './model-gate.ts'
import type { Supervisor } from './worker/supervisor.ts'

export type RunnerApp = FastifyInstance<Server>

/** What the routes work with. */
export interface RunnerContext {
  readonly module: RunnerConfiguration
  readonly supervisor: Supervisor
  readonly gate: ModelGate
  readonly calls: CallBook
  readonly memory: MemoryCare
  readonly bodyLimit: number
  /** Throws UNAUTHORIZED, or SHUTTING_DOWN once the runner ends. */
  admit(authorization: string | undefined): void
}
