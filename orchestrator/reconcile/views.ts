import type { BerthError } from '../domain/errors.ts'
import type { ModelDefinition, ModuleManifest } from '../domain/manifest.ts'
import { bestState, type ReplicaState } from '../domain/replica.ts'
import type {
  EnvironmentView,
  ModelView,
  ModuleView,
  PlanStepView,
  ReplicaView,
  SecurityView,
} from '../domain/views.ts'
import type { EngineCapabilities, Weakness } from '../engines/engine.ts'
import { shortageError } from '../lifecycle/shortage.ts'
import { isLive, type ModuleState, type Replica } from '../lifecycle/state.ts'
import type { PlanStep } from './plan.ts'

/** From a writer's state to the shapes of the API. Reading only. */

export function moduleView(
  state: Readonly<ModuleState>,
  capabilities: EngineCapabilities,
  manifestError: BerthError | undefined,
): ModuleView {
  const { manifest } = state.definition
  const error = manifestError ?? moduleError(state)
  const environment = environmentView(state)
  const { progress } = state.preparation
  return {
    id: state.id,
    format: manifest.format,
    ...(manifest.version === undefined ? {} : { version: manifest.version }),
    ...(manifest.description === undefined ? {} : { description: manifest.description }),
    desired: state.wanted === 'enabled' ? 'enabled' : 'disabled',
    state: moduleState(state),
    source: manifest.source.kind === 'folder' ? manifest.source.path : manifest.source.reference,
    scale: { min: manifest.scale.min, max: manifest.scale.max },
    replicas: [...state.replicas.values()].map(replicaView),
    models: modelNames(state),
    ...(environment ? { environment } : {}),
    ...(error ? { error: error.toBody() } : {}),
    security: securityView(manifest, capabilities),
    ...(progress && state.preparation.state === 'running' ? { progress: plainProgress(progress) } : {}),
  }
}

function plainProgress({ phase, message, current, total }: NonNullable<ModuleState['preparation']['progress']>) {
  return { phase, message, ...(current === undefined ? {} : { current }), ...(total === undefined ? {} : { total }) }
}

/** The best replica's; without a live one, what the preparation says. */
export function moduleState(state: Readonly<ModuleState>): ReplicaState {
  const best = bestState([...state.replicas.values()].map((replica) => replica.state))
  if (best !== 'absent' && best !== 'failed') return best
  if (state.wanted !== 'enabled') return 'absent'
  if (state.definition.external) return state.failure.error ? 'failed' : 'absent'
  if (state.preparation.state === 'running' || state.preparation.state === 'needed') return 'preparing'
  if (state.preparation.state === 'failed' || best === 'failed') return 'failed'
  return 'absent'
}

function moduleError(state: Readonly<ModuleState>): BerthError | undefined {
  for (const replica of state.replicas.values()) if (replica.error) return replica.error
  const [held] = state.shortages.values()
  return state.preparation.error ?? state.failure.error ?? (held && shortageError(state.id, held))
}

function replicaView(replica: Replica): ReplicaView {
  return {
    id: replica.id,
    generation: replica.generation,
    state: replica.state,
    ...(replica.workload?.container === undefined ? {} : { container: replica.workload.container }),
    gpus: replica.workload?.gpus ?? [],
    models: [...replica.models.keys()],
    inflight: replica.inflight,
    restarts: replica.restarts,
    ...(replica.error ? { error: replica.error.toBody() } : {}),
  }
}

function modelNames(state: Readonly<ModuleState>): string[] {
  return [...new Set([...state.definition.models.keys(), ...state.adhoc.keys()])]
}

function environmentView({ preparation }: Readonly<ModuleState>): EnvironmentView | undefined {
  const { environment } = preparation
  if (environment)
    return {
      key: environment.key,
      state: 'ready',
      ...(environment.bytes === undefined ? {} : { bytes: environment.bytes }),
    }
  const key =
    preparation.progress && 'environmentKey' in preparation.progress ? preparation.progress.environmentKey : undefined
  if (typeof key !== 'string') return undefined
  return { key, state: preparation.state === 'failed' ? 'failed' : 'installing' }
}

/** 100 less what the engine and the module's own manifest open. */
export function securityView(manifest: ModuleManifest, capabilities: EngineCapabilities): SecurityView {
  if (manifest.source.kind === 'external') return securityOf(capabilities, [notOurs])
  const own: Weakness[] = []
  if (manifest.network === 'egress') own.push({ points: 15, finding: 'it may reach other machines (network: egress)' })
  if (manifest.calls.length > 0) {
    own.push({ points: 5, finding: `it may call other models (${manifest.calls.join(', ')})` })
  }
  return securityOf(capabilities, own)
}

const notOurs: Weakness = {
  points: 30,
  finding: 'somebody else runs its containers: how they are confined is not known to Berth',
}

/** What the engine alone gives, where there is no manifest to look at. */
export function securityOf(capabilities: EngineCapabilities, own: readonly Weakness[] = []): SecurityView {
  const weaknesses = [...capabilities.weaknesses, ...own]
  const taken = weaknesses.reduce((sum, { points }) => sum + points, 0)
  return { score: Math.max(0, 100 - taken), findings: weaknesses.map(({ finding }) => finding) }
}

export function modelView(definition: ModelDefinition, state: Readonly<ModuleState>): ModelView {
  const { name } = definition
  const having = [...state.replicas.values()].filter((replica) => isLive(replica) && replica.models.has(name))
  const lastUsedMs = Math.max(0, ...having.map((replica) => replica.models.get(name)?.lastUsedMs ?? 0))
  const waiting = state.waiters.filter((waiter) => waiter.model === name && waiter.kind === 'use').length
  const inflight = having.reduce((sum, replica) => sum + (replica.models.get(name)?.inflight ?? 0), 0)
  return {
    name,
    module: definition.module,
    state: modelState(name, having, state),
    replicas: having.map((replica) => replica.id),
    queued: waiting,
    inflight,
    ...(lastUsedMs > 0 ? { lastUsed: new Date(lastUsedMs).toISOString() } : {}),
  }
}

function modelState(name: string, having: readonly Replica[], state: Readonly<ModuleState>): ReplicaState {
  if (having.some((replica) => replica.state === 'ready')) return 'ready'
  for (const replica of state.replicas.values()) {
    if (replica.operation?.models.includes(name)) return replica.operation.kind === 'load' ? 'loading' : 'offloading'
  }
  if (having.length > 0) return 'ready'
  const module = moduleState(state)
  return module === 'ready' || module === 'loading' || module === 'offloading' ? 'idle' : module
}

export function planStepView({ action, module, workload, cause }: PlanStep): PlanStepView {
  return { action, module, replica: workload.replica, cause }
}
