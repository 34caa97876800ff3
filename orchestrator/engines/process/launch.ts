import { join } from 'node:path'
import {
  type EnvironmentMarker,
  type InstallOrder,
  installerNodeFlags,
  installVariable,
  type RunnerConfiguration,
  runnerNodeFlags,
  runnerVariables,
  uvVariable,
} from '../../../module-runner/protocol.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import type { ChildGroupOptions } from './child-group.ts'
import { hostVariables, installerVariables } from './host-environment.ts'
import type { ProcessPaths } from './paths.ts'
import { type HostPython, pathWith } from './python.ts'

/** Pure: what is run for a workload and for an installer, with which variables. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The data folder, in which the paths are. */
  readonly data: string
  readonly paths: ProcessPaths
  /** Where Berth's own files lie. */
  readonly repositoryRoot: string
}

export type Launch = Omit<ChildGroupOptions, 'onLine'>

/**
 * Variables that every process of an orchestrator carries, whatever it does. The data folder, which only one orchestrator
 * has at a time, keeps two that were given the same instance apart.
 */
export function ownMarks(instance: string, data: string): Readonly<Record<string, string>> {
  return { BERTH_INSTANCE: instance, BERTH_DATA_FOLDER: data }
}

export interface RunnerLaunch {
  readonly spec: WorkloadSpec
  readonly socket: string
  /** Lasting and writable, for this module alone. */
  readonly data: string
  readonly environment: { readonly folder: string; readonly marker: EnvironmentMarker } | undefined
  readonly python: HostPython | undefined
  /** Ids of the GPUs given to it. */
  readonly gpus: readonly string[]
}

export function runnerLaunch(host: Host, launch: RunnerLaunch): Launch {
  const { spec, data, environment, python } = launch
  const configuration: RunnerConfiguration = {
    ...spec.runner,
    paths: {
      module: spec.folder ?? data,
      data,
      cache: host.paths.models,
      ...(environment === undefined ? {} : { environment: environment.folder }),
      ...(python === undefined ? {} : { python: python.path }),
    },
  }
  const marks = {
    ...ownMarks(spec.instance, host.data),
    BERTH_REPLICA: spec.replica,
    BERTH_GENERATION: String(spec.generation),
  }
  return {
    program: process.execPath,
    args: [...runnerNodeFlags, join(host.repositoryRoot, 'module-runner/server/main.ts')],
    cwd: data,
    lifeLine: 'program',
    marks,
    env: {
      ...hostVariables(host.env),
      NODE_COMPILE_CACHE: host.paths.compiled,
      ...threads(spec.limits.cpus),
      // On the machine itself a device is chosen by its id; inside, the chosen ones count from 0.
      CUDA_VISIBLE_DEVICES: launch.gpus.join(','),
      NVIDIA_VISIBLE_DEVICES: launch.gpus.length === 0 ? 'void' : launch.gpus.join(','),
      ...spec.env,
      [runnerVariables.token]: spec.token,
      [runnerVariables.socket]: launch.socket,
      [runnerVariables.module]: JSON.stringify(configuration),
      [runnerVariables.exitWithStdin]: '1',
      ...marks,
    },
  }
}

export interface InstallerLaunch {
  readonly spec: WorkloadSpec
  readonly key: string
  readonly folder: string
  readonly python: HostPython | undefined
  readonly uv: string | undefined
  readonly gpu: InstallOrder['gpu']
}

export function installerLaunch(host: Host, launch: InstallerLaunch): Launch {
  const { spec, python } = launch
  const order: InstallOrder = {
    key: launch.key,
    folder: launch.folder,
    module: spec.folder ?? host.paths.environments,
    ...(spec.requirements.file === undefined ? {} : { file: spec.requirements.file }),
    extra: [...spec.requirements.extra],
    ...(spec.python === undefined ? {} : { python: spec.python }),
    gpu: launch.gpu,
    cache: host.paths.downloads,
  }
  const marks = { ...ownMarks(spec.instance, host.data), BERTH_ENVIRONMENT: launch.key }
  const variables = installerVariables(host.env)
  return {
    program: process.execPath,
    args: [...installerNodeFlags, join(host.repositoryRoot, 'module-runner/server/install.ts')],
    cwd: order.module,
    lifeLine: 'guard',
    marks,
    env: {
      ...variables,
      // The interpreter that the environment's key names is the first that the installer finds.
      ...(python === undefined ? {} : { PATH: pathWith(python, variables.PATH) }),
      NODE_COMPILE_CACHE: host.paths.compiled,
      ...(launch.uv === undefined ? {} : { [uvVariable]: launch.uv }),
      [installVariable]: JSON.stringify(order),
      ...marks,
    },
  }
}

/** A share of the processors can't be enforced here; numeric libraries are told how many threads to use. */
function threads(cpus: number | undefined): Record<string, string> {
  if (cpus === undefined) return {}
  const count = String(Math.max(1, Math.ceil(cpus)))
  return { OMP_NUM_THREADS: count, OPENBLAS_NUM_THREADS: count, MKL_NUM_THREADS: count }
}
