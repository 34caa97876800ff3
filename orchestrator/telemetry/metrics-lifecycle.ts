import type { Registry } from 'prom-client'
import { counterFamily, histogramFamily } from './metric-families.ts'

/** What a cold start consists of, in the order in which it happens. */
export type ColdStartPhase = 'environment' | 'create' | 'boot' | 'load' | 'first-chunk'

/** Why a replica is replaced. */
export type CrashKind = 'exited' | 'out-of-memory' | 'hung' | 'start-failed' | 'unreachable' | 'removed'

/** Why a request that waited got nothing. */
export type Rejection = 'full' | 'timeout' | 'unavailable' | 'disabled' | 'failed'

/** Figures of the life of modules. Durations are given in milliseconds and shown in seconds. */
export interface LifecycleMetrics {
  environmentInstalled(module: string, outcome: 'ok' | 'failed' | 'cancelled', milliseconds: number): void
  coldStart(module: string, phase: ColdStartPhase, milliseconds: number): void
  restarted(module: string, cause: CrashKind): void
  /** A request that had to wait got its lease. */
  waited(module: string, model: string, milliseconds: number): void
  rejected(module: string, model: string, reason: Rejection): void
  adopted(module: string, milliseconds: number): void
  idled(module: string, what: 'offload' | 'stop'): void
  /** What an idle module's next request waited for. */
  wayBack(module: string, what: 'load' | 'start', milliseconds: number): void
  scaled(module: string, direction: 'up' | 'down'): void
  /** One listing of the engine with the mending that follows from it. */
  reconciled(milliseconds: number): void
}

const shortSeconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const startSeconds = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600]
const installSeconds = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800]

export interface LifecycleFamilies {
  readonly record: LifecycleMetrics
  forget(module: string): void
}

export function lifecycleFamilies(registry: Registry): LifecycleFamilies {
  const counter = (name: string, help: string, labels: readonly string[]) =>
    counterFamily(registry, { name, help, labels })
  const histogram = (name: string, help: string, labels: readonly string[], buckets: readonly number[]) =>
    histogramFamily(registry, { name, help, labels, buckets })

  const installs = counter('berth_environment_installs_total', 'Environments installed, by outcome', [
    'module',
    'outcome',
  ])
  const installTime = histogram(
    'berth_environment_install_duration_seconds',
    'Time of an environment install',
    ['module'],
    installSeconds,
  )
  const coldStarts = histogram(
    'berth_cold_start_seconds',
    'Time of each phase of a cold start',
    ['module', 'phase'],
    startSeconds,
  )
  const restarts = counter('berth_module_restarts_total', 'Workers and containers started again, by cause', [
    'module',
    'cause',
  ])
  const delays = histogram(
    'berth_inference_queue_delay_seconds',
    'Time that admitted inferences had waited, of those that had to wait',
    ['module', 'model'],
    startSeconds,
  )
  const rejections = counter('berth_inference_rejected_total', 'Inferences that waited or would have to, refused', [
    'module',
    'model',
    'reason',
  ])
  const adoptions = histogram(
    'berth_module_adoption_seconds',
    'Time until a replica that ran already was taken over',
    ['module'],
    shortSeconds,
  )
  const idlings = counter('berth_module_idled_total', 'Offloads and stops because nothing was asked for', [
    'module',
    'what',
  ])
  const waysBack = histogram(
    'berth_module_way_back_seconds',
    'Time until an idle module could serve again: a load, or a start',
    ['module', 'what'],
    startSeconds,
  )
  const scalings = counter('berth_module_scalings_total', 'Changes of the wanted number of replicas', [
    'module',
    'direction',
  ])
  const reconciles = histogram(
    'berth_reconcile_duration_seconds',
    'Time of one comparison of what runs with what is wanted',
    [],
    shortSeconds,
  ).child()

  return {
    record: {
      environmentInstalled(module, outcome, milliseconds) {
        installs.child(module, outcome).value += 1
        installTime.child(module).observe(milliseconds / 1000)
      },
      coldStart: (module, phase, milliseconds) => coldStarts.child(module, phase).observe(milliseconds / 1000),
      restarted(module, cause) {
        restarts.child(module, cause).value += 1
      },
      waited: (module, model, milliseconds) => delays.child(module, model).observe(milliseconds / 1000),
      rejected(module, model, reason) {
        rejections.child(module, model, reason).value += 1
      },
      adopted: (module, milliseconds) => adoptions.child(module).observe(milliseconds / 1000),
      idled(module, what) {
        idlings.child(module, what).value += 1
      },
      wayBack: (module, what, milliseconds) => waysBack.child(module, what).observe(milliseconds / 1000),
      scaled(module, direction) {
        scalings.child(module, direction).value += 1
      },
      reconciled: (milliseconds) => reconciles.observe(milliseconds / 1000),
    },
    forget(module) {
      for (const family of [installs, restarts, rejections, idlings, scalings]) family.forget(module)
      for (const family of [installTime, coldStarts, delays, adoptions, waysBack]) family.forget(module)
    },
  }
}
