import { createHmac } from 'node:crypto'
import { basename } from 'node:path'
import type { ModelDefinition, ModuleManifest } from '../domain/manifest.ts'
import { specHash } from '../engines/spec-hash.ts'
import type { WorkloadSpec } from '../engines/workload-spec.ts'
import type { ReplicaRef } from './effects.ts'
import type { ModuleDefinition } from './state.ts'

/** Turns a module's definition into what an engine is told: pure, so that the same definition has the same hash. */

/** Whose workloads these are. The secret makes tokens that an orchestrator can compute again after a restart. */
export interface Instance {
  readonly id: string
  readonly secret: string
}

/** Enough for a worker with many threads, too few for a fork bomb. */
const pidsLimit = 2048

/** JSON knows no Infinity (`none`), and no timer is longer than this: 24 days. */
const longestMs = 2_147_483_647

export function defineModule(
  instance: Instance,
  manifest: ModuleManifest,
  models: ReadonlyMap<string, ModelDefinition>,
): ModuleDefinition {
  const { runner, ...rest } = content(instance, manifest, models)
  // Models are left out: a change of their configuration loads them anew, it needs no new container.
  const hash = specHash({
    ...rest,
    runner: { ...runner, models: {} },
    env: { ...rest.env, BERTH_CONTENT: manifest.contentHash },
    replica: '',
  })
  return { manifest, models, specHash: hash, external: manifest.source.kind === 'external' }
}

export function workloadSpec(
  instance: Instance,
  definition: ModuleDefinition,
  replica: ReplicaRef,
  devices: readonly string[],
): WorkloadSpec {
  return {
    ...content(instance, definition.manifest, definition.models),
    replica: replica.id,
    generation: replica.generation,
    specHash: definition.specHash,
    token: workloadToken(instance, replica),
    devices,
  }
}

/** The bearer token of one generation of a replica. */
export function workloadToken(instance: Instance, replica: ReplicaRef): string {
  return createHmac('sha256', instance.secret)
    .update(`${instance.id}/${replica.id}/${replica.generation}`)
    .digest('hex')
}

function content(
  instance: Instance,
  manifest: ModuleManifest,
  models: ReadonlyMap<string, ModelDefinition>,
): Omit<WorkloadSpec, 'replica' | 'generation' | 'specHash' | 'token' | 'devices'> {
  const { resources, timeouts } = manifest
  return {
    instance: instance.id,
    module: manifest.id,
    base: manifest.base,
    ...(manifest.source.kind === 'folder' && manifest.base.kind !== 'protocol' ? { folder: manifest.source.path } : {}),
    requirements: manifest.requirements,
    ...(manifest.python === undefined ? {} : { python: manifest.python }),
    runner: {
      // Modules import each other's files by the folder's name, also where module.yaml gives another id.
      id: manifest.source.kind === 'folder' ? basename(manifest.source.path) : manifest.id,
      format: manifest.format === 'image' ? 'service' : manifest.format,
      entry: manifest.entry ?? '',
      models: Object.fromEntries([...models].map(([name, model]) => [name, model.configuration])),
      ...(manifest.configuration === undefined ? {} : { configuration: manifest.configuration }),
      concurrency: manifest.concurrency,
      onDisconnect: manifest.onDisconnect,
      calls: [...manifest.calls],
      drainMs: Math.min(timeouts.drainMs, longestMs),
      callMs: Math.min(timeouts.callMs, longestMs),
    },
    env: manifest.env,
    limits: {
      ...(resources.cpus === undefined ? {} : { cpus: resources.cpus }),
      ...(resources.memoryBytes === undefined ? {} : { memoryBytes: resources.memoryBytes }),
      pids: pidsLimit,
    },
    ...(manifest.gpu === undefined ? {} : { gpu: manifest.gpu }),
    network: manifest.network,
    installTimeoutMs: timeouts.installMs,
  }
}
