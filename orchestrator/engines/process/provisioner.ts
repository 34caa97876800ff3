import { stat } from 'node:fs/promises'
import type { InstallOrder } from '../../../module-runner/protocol.ts'
import { BerthError } from '../../domain/errors.ts'
import type { GpuDevice, OnProgress, Prepared, PrepareProgress } from '../engine.ts'
import { environmentKey, indexOptions } from '../environment-key.ts'
import { environmentGpu } from '../gpu-devices.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import type { Environments } from './environments.ts'
import { installerVariables } from './host-environment.ts'
import { runInstaller } from './installer.ts'
import { type Host, installerLaunch } from './launch.ts'
import { findPython, type HostPython } from './python.ts'
import { findUv } from './uv.ts'

/** What a workload needs before it can start: which environment, on which Python, and its installation. */
export interface EnvironmentPlan {
  readonly key: string
  readonly python: HostPython | undefined
  readonly gpu: InstallOrder['gpu']
}

export class Provisioner {
  readonly #host: Host
  readonly #environments: Environments
  readonly #gpus: () => readonly GpuDevice[]
  readonly #pythons = new Map<string, Promise<HostPython | undefined>>()
  #uvProblem: string | undefined

  constructor(host: Host, environments: Environments, gpus: () => readonly GpuDevice[]) {
    this.#host = host
    this.#environments = environments
    this.#gpus = gpus
  }

  async prepare(spec: WorkloadSpec, signal: AbortSignal, onProgress: OnProgress): Promise<Prepared> {
    const plan = await this.plan(spec)
    if (plan === undefined) return { cached: true }
    return await this.#environments.ensure(plan.key, signal, onProgress, (folder, cancelled, report) =>
      this.#install(spec, plan, folder, cancelled, report),
    )
  }

  /** The environment that a workload needs; none without requirements, on a Python of the wanted version. */
  async plan(spec: WorkloadSpec): Promise<EnvironmentPlan | undefined> {
    const python = await this.python(spec.python)
    if (spec.requirements.empty && (spec.python === undefined || python !== undefined)) return undefined
    const gpu = environmentGpu(spec, this.#gpus())
    const key = environmentKey({
      requirements: spec.requirements.hash,
      base: `host ${python?.identity ?? 'python by uv'}`,
      python: spec.python,
      architecture: process.arch,
      index: indexOptions(this.#host.env),
      gpu,
    })
    return { key, python, gpu }
  }

  python(wanted: string | undefined): Promise<HostPython | undefined> {
    const name = wanted ?? ''
    const known = this.#pythons.get(name)
    if (known !== undefined) return known
    const found = findPython(installerVariables(this.#host.env), wanted)
    this.#pythons.set(name, found)
    // One that is installed later is found without a restart.
    void found.then((python) => python ?? this.#pythons.delete(name))
    return found
  }

  async #install(
    spec: WorkloadSpec,
    plan: EnvironmentPlan,
    folder: string,
    signal: AbortSignal,
    report: (progress: PrepareProgress) => void,
  ): Promise<void> {
    const note = (line: string): void => report({ phase: 'environment', message: line, line, environmentKey: plan.key })
    const uv = await this.#uv(signal, note)
    await assertFolder(spec)
    const launch = installerLaunch(this.#host, { spec, folder, uv, ...plan })
    const debian = plan.python?.canMakeEnvironments === false && uv === undefined
    await runInstaller(
      {
        module: spec.module,
        key: plan.key,
        timeoutMs: spec.installTimeoutMs,
        child: launch,
        file: spec.requirements.file,
        remedy: debian
          ? 'install the Python module venv (on Debian and Ubuntu: apt install python3-venv), or uv'
          : 'read the lines, correct the requirements, and enable the module again',
      },
      signal,
      report,
    )
  }

  async #uv(signal: AbortSignal, note: (line: string) => void): Promise<string | undefined> {
    if (this.#uvProblem === undefined) {
      const found = await findUv(
        {
          configured: this.#host.env.BERTH_UV,
          tools: this.#host.paths.tools,
          env: installerVariables(this.#host.env),
          python: await this.python(undefined),
        },
        signal,
        note,
      )
      if ('path' in found) return found.path
      this.#uvProblem = found.problem
    }
    note(`pip installs the requirements, because uv can't be had: ${this.#uvProblem}`)
    return undefined
  }
}

/** Rejects with MODULE_NOT_FOUND. */
export async function assertFolder(spec: WorkloadSpec): Promise<void> {
  const { folder, module } = spec
  const found = folder === undefined ? undefined : await stat(folder).catch(() => undefined)
  if (found?.isDirectory() === true) return
  throw new BerthError(
    'MODULE_NOT_FOUND',
    `The folder of module ${module} is not there: ${folder ?? 'none was given'}`,
    {
      module,
      ...(folder === undefined ? {} : { file: folder }),
    },
  )
}
