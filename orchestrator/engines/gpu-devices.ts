import type { InstallOrder } from '../../module-runner/protocol.ts'
import { BerthError } from '../domain/errors.ts'
import type { GpuRequest } from '../domain/manifest.ts'
import type { GpuDevice } from './engine.ts'
import type { WorkloadSpec } from './workload-spec.ts'

/** What a module's request comes to on the devices that an engine has. Which of them a replica gets, the orchestrator says. */

/** Those that one workload may have together: it can't use NVIDIA's and AMD's at once. */
export function alikeDevices(devices: readonly GpuDevice[]): readonly GpuDevice[] {
  const [first] = devices
  return devices.filter(({ kind, via }) => kind === first?.kind && via === first.via)
}

/**
 * What the packages of an environment are chosen for: one environment for all replicas of a module, whether or not a device is
 * free for each. Throws GPU_UNAVAILABLE where there are devices, and never enough of them.
 */
export function environmentGpu(
  spec: Pick<WorkloadSpec, 'module' | 'gpu'>,
  devices: readonly GpuDevice[],
): InstallOrder['gpu'] {
  const { gpu, module } = spec
  const alike = alikeDevices(devices)
  const [first] = alike
  if (gpu === undefined || gpu.count === 0 || first === undefined) return 'NO_GPU'
  if (enough(gpu, alike)) return first.kind === 'amd' ? 'AMD' : 'NVIDIA'
  if (gpu.optional) return 'NO_GPU'
  const { count, memoryBytes } = gpu
  const wanted = `${count} GPU(s)${memoryBytes === undefined ? '' : ` with ${gibibytes(memoryBytes)} each`}`
  throw new BerthError('GPU_UNAVAILABLE', `Module ${module} asks for ${wanted}; there are: ${list(alike)}`, {
    module,
    field: count > alike.length ? 'gpu.count' : 'gpu.memory',
    remedy: 'ask for less, or set `gpu: optional` to run on the CPU',
  })
}

function enough({ count, memoryBytes = 0 }: GpuRequest, devices: readonly GpuDevice[]): boolean {
  return devices.filter(({ memoryBytes: size }) => size === undefined || size >= memoryBytes).length >= count
}

const gibibytes = (bytes: number): string => `${Number((bytes / 1024 ** 3).toFixed(2))} GiB`

function list(devices: readonly GpuDevice[]): string {
  return devices.map(({ id, memoryBytes: size }) => (size === undefined ? id : `${id} (${gibibytes(size)})`)).join(', ')
}

/** The devices that a workload was given, by their ids. Throws GPU_UNAVAILABLE for one that is not there. */
export function givenDevices(
  spec: Pick<WorkloadSpec, 'module' | 'devices'>,
  devices: readonly GpuDevice[],
): readonly GpuDevice[] {
  return spec.devices.map((id) => {
    const found = devices.find((device) => device.id === id)
    if (found) return found
    throw new BerthError(
      'GPU_UNAVAILABLE',
      `The GPU ${id} that module ${spec.module} was given is not there any more`,
      {
        module: spec.module,
        remedy: 'see the devices with `berth doctor`; start Berth anew after a change of devices',
      },
    )
  })
}
