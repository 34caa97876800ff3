import { totalmem } from 'node:os'
import { BerthError } from '../../domain/errors.ts'
import type { ModuleBase } from '../../domain/manifest.ts'
import type { EngineCapabilities, GpuDevice } from '../engine.ts'

/** What the embedded engine can do and what it can't, said once and in one place. */
export function processCapabilities(gpus: readonly GpuDevice[]): EngineCapabilities {
  return {
    isolation: 'none',
    adopts: false,
    images: false,
    networkPolicy: false,
    gpus,
    memoryBytes: machineMemory(),
    description: `embedded: child processes of this machine (${process.platform} ${process.arch}, Node ${process.versions.node})`,
    weaknesses: [
      {
        points: 40,
        finding: 'The module runs as the same user on the same machine: it can read and change what Berth can.',
      },
      {
        points: 20,
        finding: 'The module reaches the network and this machine’s own services, whatever `network` says.',
      },
      {
        points: 15,
        finding: 'Modules are not kept from each other: one can signal another’s processes and read its data.',
      },
      { points: 10, finding: 'Limits of memory, processors and the number of processes are not enforced.' },
    ],
  }
}

/** Rejects what needs a container engine, saying what would run it. */
export function assertSupported(module: string, base: ModuleBase): void {
  if (base.kind === 'default') return
  const what = base.kind === 'dockerfile' ? `is built from ${base.dockerfile}` : `needs the image ${base.image}`
  throw new BerthError('ENGINE_UNSUPPORTED', `Module ${module} ${what}, and the embedded engine runs no images`, {
    module,
    field: base.kind === 'dockerfile' ? 'dockerfile' : 'image',
    remedy: 'install Docker and set `engine: docker`, or take the image out of module.yaml',
  })
}

/** Of a limit on this process's control group, where there is one below the machine's memory. */
function machineMemory(): number {
  const limit = process.constrainedMemory()
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem()
}
