import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import type { CatalogEntry } from '../../../orchestrator/catalog/catalog.ts'
import { loadConfig } from '../../../orchestrator/config/load.ts'
import { AddedModules } from '../../../orchestrator/reconcile/added-modules.ts'
import type { DesiredSource } from '../../../orchestrator/reconcile/desired-source.ts'
import { createStore } from '../../../orchestrator/store/store.ts'
import { mayMount, mountSmallDisk } from '../../support/small-disk.ts'
import { tempFolder } from '../../support/temp-folder.ts'

it.skipIf(!mayMount())('a folder that a full disk keeps from being written down is not added', async () => {
  const disk = mountSmallDisk(1)
  const folder = tempFolder()
  const path = join(folder, 'extra')
  mkdirSync(path)
  const store = createStore(join(disk.folder, 'data'))
  onTestFinished(() => {
    store.close()
    disk.remove()
  })
  const scanned: (readonly string[])[] = []
  const entry = { id: 'extra', source: { kind: 'folder', path }, manifest: {} } as unknown as CatalogEntry
  const added = new AddedModules({
    config: () => loadConfig({ env: { BERTH_MODULES: join(folder, 'modules') }, cwd: folder }),
    store,
    desired: {} as DesiredSource,
    inspectImage: () => Promise.reject(new Error('no image is asked for')),
    exists: () => true,
    check: async () => {},
    scan: async (folders) => {
      scanned.push(folders)
      return folders.includes(path) ? [entry] : []
    },
    now: () => new Date(),
  })
  fill(join(disk.folder, 'ballast'))
  await expect(added.add(path, AbortSignal.timeout(5_000))).rejects.toThrow(/database or disk is full/)
  expect(scanned).toEqual([[path], []])
})

/** Until there is no room for one byte more. */
function fill(path: string): void {
  const file = openSync(path, 'w')
  for (let size = 4096; size >= 1; ) {
    try {
      writeSync(file, Buffer.alloc(size))
    } catch {
      size = Math.floor(size / 16)
    }
  }
  closeSync(file)
}
