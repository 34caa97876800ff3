import type { JsonObject } from '../../orchestrator/domain/json.ts'
import type { ModelDefinition, ModuleManifest } from '../../orchestrator/domain/manifest.ts'
import type { ModuleDefinition } from '../../orchestrator/lifecycle/state.ts'

/** Manifests and definitions for tests, complete and small. */
export function testManifest(more: Partial<ModuleManifest> = {}): ModuleManifest {
  const { id = 'mod' } = more
  return {
    id,
    format: 'service',
    source: { kind: 'folder', path: `/modules/${id}` },
    base: { kind: 'default' },
    entry: 'service.py',
    requirements: { extra: [], hash: 'none', empty: true },
    resources: {},
    network: 'none',
    scale: { min: 0, max: 1 },
    concurrency: 1,
    idleTtlMs: Number.POSITIVE_INFINITY,
    stopTtlMs: Number.POSITIVE_INFINITY,
    calls: [],
    onDisconnect: 'cancel',
    timeouts: {
      installMs: 1_800_000,
      startMs: 60_000,
      loadMs: 900_000,
      inferMs: Number.POSITIVE_INFINITY,
      firstChunkMs: 300_000,
      betweenChunksMs: 120_000,
      callMs: 60_000,
      drainMs: 30_000,
    },
    queue: { limit: 64, timeoutMs: 60_000 },
    serves: [],
    models: {},
    env: {},
    contentHash: 'content',
    ...more,
  }
}

export function testModel(name: string, more: Partial<ModelDefinition> = {}): ModelDefinition {
  return { name, module: 'mod', configuration: {}, maxSimulUsers: 1, idleTtlMs: Number.POSITIVE_INFINITY, ...more }
}

export interface TestDefinition {
  readonly specHash?: string
  readonly manifest?: Partial<ModuleManifest>
  /** Configuration by model; `m` alone where it is left out. */
  readonly models?: Readonly<Record<string, JsonObject>>
  readonly idleTtlMs?: number
}

export function testDefinition({
  specHash = 'spec-1',
  manifest,
  models = { m: {} },
  idleTtlMs,
}: TestDefinition = {}): ModuleDefinition {
  const ttl = idleTtlMs === undefined ? {} : { idleTtlMs }
  return {
    manifest: testManifest(manifest),
    models: new Map(
      Object.entries(models).map(([name, configuration]) => [name, testModel(name, { configuration, ...ttl })]),
    ),
    specHash,
    external: manifest?.source?.kind === 'external',
  }
}
