import { createHash } from 'node:crypto'
import { stableJson } from './stable-json.ts'
import type { WorkloadSpec } from './workload-spec.ts'

/**
 * Hash of what a workload is made of: 32 hexadecimal characters. A running workload of the same hash needs no restart.
 * Generation, token and the devices given are left out: they change with every start and say nothing about the content.
 */
export function specHash(spec: Omit<WorkloadSpec, 'generation' | 'token' | 'specHash' | 'devices'>): string {
  const {
    generation: _generation,
    token: _token,
    specHash: _hash,
    devices: _devices,
    ...content
  } = spec as Partial<WorkloadSpec>
  return createHash('sha256').update(stableJson(content)).digest('hex').slice(0, 32)
}
