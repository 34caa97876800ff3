import type { GpuView } from '../domain/views.ts'
import type { GpuDevice } from '../engines/engine.ts'
import type { DeviceAccount } from '../lifecycle/resources/ledger.ts'
import type { GpuUse } from '../telemetry/metrics-state.ts'

/** From the ledger's accounts to the shapes of the API and of the metrics. Reading only. */

/** Every device of the engine; those that the ledger does not give away have no holders. */
export function gpuViews(devices: readonly GpuDevice[], accounts: readonly DeviceAccount[]): readonly GpuView[] {
  return devices.map(({ id, kind, memoryBytes }) => {
    const account = accounts.find((each) => each.id === id)
    const holders = account?.holders ?? []
    return {
      id,
      kind,
      ...(memoryBytes === undefined ? {} : { memory: memoryBytes }),
      ...(account?.usedBytes === undefined ? {} : { used: account.usedBytes }),
      holders: [...new Set(holders.map(({ module }) => module))],
      allocations: holders.map((holder) => ({
        module: holder.module,
        replica: holder.replica,
        exclusive: holder.exclusive,
        ...(holder.declaredBytes === undefined ? {} : { declared: holder.declaredBytes }),
        ...(holder.measuredBytes === undefined ? {} : { measured: holder.measuredBytes }),
        ...(holder.heldBytes === undefined ? {} : { held: holder.heldBytes }),
      })),
    }
  })
}

/** What each holder has of each device, as far as it is known; `other`: in use, and by none of them. */
export function gpuUses(accounts: readonly DeviceAccount[]): readonly GpuUse[] {
  return accounts.flatMap(({ id, sizeBytes, usedBytes = 0, holders }) => {
    const own = holders.map(({ module, exclusive, heldBytes, measuredBytes }) => ({
      id,
      holder: module,
      bytes: exclusive ? (sizeBytes ?? measuredBytes ?? 0) : (heldBytes ?? 0),
    }))
    const rest = usedBytes - own.reduce((sum, { bytes }) => sum + bytes, 0)
    return rest > 0 ? [...own, { id, holder: 'other', bytes: rest }] : own
  })
}
