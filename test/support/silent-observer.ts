import type { LifecycleObserver } from '../../orchestrator/lifecycle/effects.ts'

/** Is told everything and does nothing with it. */
export const silentObserver: LifecycleObserver = {
  moved() {},
  preparing() {},
  prepared() {},
  replicaUp() {},
  replicaDown() {},
  crashed() {},
  coldStart() {},
  admitted() {},
  rejected() {},
  adopted() {},
  idled() {},
  wayBack() {},
  scaled() {},
}
