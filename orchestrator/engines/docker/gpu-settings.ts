import type Docker from 'dockerode'
import type { GpuDevice } from '../engine.ts'

/** How the daemon is asked for devices, and what the module is told of them. Inside, devices count from 0. */
export interface GpuSettings {
  readonly env: Readonly<Record<string, string>>
  readonly host: Docker.HostConfig
}

export function gpuSettings(gpus: readonly GpuDevice[], groups: readonly number[]): GpuSettings {
  const [first] = gpus
  // `void`: images that ask for every device would get them all where NVIDIA's runtime is the daemon's default.
  if (first === undefined) return { env: { NVIDIA_VISIBLE_DEVICES: 'void' }, host: {} }
  const ordinals = gpus.map((_, index) => index).join(',')
  const ids = gpus.map(({ id }) => id.slice(id.indexOf('=') + 1))
  const env =
    first.kind === 'nvidia'
      ? { NVIDIA_VISIBLE_DEVICES: ids.join(','), CUDA_VISIBLE_DEVICES: ordinals }
      : { NVIDIA_VISIBLE_DEVICES: 'void', HIP_VISIBLE_DEVICES: ordinals }
  return { env, host: hostSettings(first.via, gpus, groups) }
}

function hostSettings(via: GpuDevice['via'], gpus: readonly GpuDevice[], groups: readonly number[]): Docker.HostConfig {
  const DeviceIDs = gpus.map(({ id }) => id)
  switch (via) {
    case 'cdi':
      return { DeviceRequests: [{ Driver: 'cdi', DeviceIDs }] }
    case 'device-request':
      return { DeviceRequests: [{ DeviceIDs, Capabilities: [['gpu', 'compute', 'utility']] }] }
    case 'device-file':
      return {
        Devices: ['/dev/kfd', ...DeviceIDs].map((path) => ({
          PathOnHost: path,
          PathInContainer: path,
          CgroupPermissions: 'rw',
        })),
        GroupAdd: groups.map(String),
      }
    case 'host':
      return {}
  }
}
