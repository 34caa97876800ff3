import type { RunnerConfiguration } from '../protocol.ts'
import type { CallBook } from './calls.ts'
import type { GpuMemory } from './gpu-memory.ts'
import type { MemoryCare } from './memory.ts'
import type { ModelGate } from './model-gate.ts'
import type { Supervisor } from './worker/supervisor.ts'

/** What the routes work with. */
export interface RunnerContext {
  readonly module: RunnerConfiguration
  readonly supervisor: Supervisor
  readonly gate: ModelGate
  readonly calls: CallBook
  readonly memory: MemoryCare
  readonly gpuMemory: GpuMemory
  /** Largest request body in bytes. */
  readonly bodyLimit: number
}
