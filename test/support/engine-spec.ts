import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { specHash } from '../../orchestrator/engines/spec-hash.ts'
import type { WorkloadSpec } from '../../orchestrator/engines/workload-spec.ts'

/** Workloads of the modules in test/testdata/engine, for every engine's tests. */
export type EngineModule = 'probe' | 'installed' | 'uninstallable' | 'slow-install'

export interface SpecOverrides extends Partial<Omit<WorkloadSpec, 'specHash' | 'instance' | 'module' | 'folder'>> {
  readonly module?: EngineModule
  readonly folder?: string
}

const requirementFiles: Partial<Record<EngineModule, string>> = {
  installed: 'requirements.py',
  uninstallable: 'requirements.txt',
  'slow-install': 'requirements.py',
}

const folders = join(import.meta.dirname, '../testdata/engine')

/** A spec with an environment of its own: give `requirements` to use one twice. */
export function engineSpec(instance: string, overrides: SpecOverrides = {}): WorkloadSpec {
  const { module = 'probe', ...rest } = overrides
  const file = requirementFiles[module]
  const content = {
    instance,
    module,
    replica: `${module}-0`,
    generation: 1,
    base: { kind: 'default' as const },
    folder: join(folders, module),
    requirements: {
      ...(file === undefined ? {} : { file }),
      extra: [],
      hash: file === undefined ? 'none' : randomUUID(),
      empty: file === undefined,
    },
    token: 'token-of-the-contract',
    runner: {
      id: module,
      format: 'service' as const,
      entry: 'service.py',
      models: { [module]: {} },
      onDisconnect: 'cancel' as const,
      calls: [],
      drainMs: 1_000,
      callMs: 5_000,
    },
    env: {},
    limits: { pids: 256 },
    devices: [],
    network: 'none' as const,
    installTimeoutMs: 300_000,
    ...rest,
  }
  return { ...content, specHash: specHash(content) }
}
