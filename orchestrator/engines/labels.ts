/** Labels of everything that Berth makes in an engine. Without them, and our instance id, nothing is touched. */
export const labels = {
  instance: 'dev.berth.instance',
  module: 'dev.berth.module',
  replica: 'dev.berth.replica',
  generation: 'dev.berth.generation',
  specHash: 'dev.berth.spec-hash',
  /** Of the volume that tells who has an instance: the orchestrator (claim.ts). */
  owner: 'dev.berth.owner',
  /** What a resource is: workload, installer, environment, network, data, runner, cache, owner. */
  role: 'dev.berth.role',
  /** On images and on containers that somebody else runs: the version of the runner protocol. */
  protocol: 'dev.berth.protocol',
  /** On a container that somebody else runs: the instance that may use it; any where it is absent. */
  for: 'dev.berth.for',
  environment: 'dev.berth.environment',
  /** Ids of the devices that a workload was given, separated by commas. */
  gpus: 'dev.berth.gpus',
} as const
