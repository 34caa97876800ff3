import type { EngineCapabilities } from '../../engines/engine.ts'
import { alikeDevices } from '../../engines/gpu-devices.ts'
import type { Machine } from './holdings.ts'

/** What an engine's machine has to share out. `memoryBytes`: what a person says that modules may have together. */
export function machineOf(
  capabilities: Pick<EngineCapabilities, 'gpus' | 'memoryBytes'>,
  memoryBytes: number | undefined,
): Machine {
  return {
    devices: alikeDevices(capabilities.gpus).map(({ id, memoryBytes: sizeBytes }) => ({
      id,
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    })),
    memoryBytes: memoryBytes ?? withoutReserve(capabilities.memoryBytes),
  }
}

const mostReserved = 2 * 1024 ** 3

/** The system and Berth itself need some. */
function withoutReserve(bytes: number): number {
  return Number.isFinite(bytes) ? bytes - Math.min(mostReserved, bytes * 0.05) : bytes
}
