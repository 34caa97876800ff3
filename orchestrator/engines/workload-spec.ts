import type { RunnerConfiguration } from '../../module-runner/protocol.ts'
import type { GpuRequest, ModuleBase, Requirements } from '../domain/manifest.ts'

/** Everything an engine needs to make and run one replica; pure data, no defaults left open. */
export interface WorkloadSpec {
  /** Identity of this orchestrator's data folder; every label carries it. */
  readonly instance: string
  readonly module: string
  /** Unique in the instance, such as `embeddings-0`. */
  readonly replica: string
  /** Grows with every start of a replica id; never two live generations of one. */
  readonly generation: number
  /** Changes when anything below changes, generation, token and devices left out. */
  readonly specHash: string
  readonly base: ModuleBase
  /** Folder with the module's files on this machine; absent for protocol images. */
  readonly folder?: string
  readonly requirements: Requirements
  readonly python?: string
  /** Bearer token that the runner asks for (BERTH_TOKEN). */
  readonly token: string
  /** What the runner is told in BERTH_MODULE; the engine fills in `paths`. */
  readonly runner: Omit<RunnerConfiguration, 'paths'>
  /** Variables for the module's process. */
  readonly env: Readonly<Record<string, string>>
  readonly limits: { readonly cpus?: number; readonly memoryBytes?: number; readonly pids: number }
  readonly gpu?: GpuRequest
  /** Ids of the GPUs that this start was given; empty: it runs on the CPU. */
  readonly devices: readonly string[]
  readonly network: 'none' | 'egress'
  readonly installTimeoutMs: number
}
