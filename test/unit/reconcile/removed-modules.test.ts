import { expect, it, onTestFinished } from 'vitest'
import { loadConfig } from '../../../orchestrator/config/load.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import { AddedModules } from '../../../orchestrator/reconcile/added-modules.ts'
import { DesiredSource } from '../../../orchestrator/reconcile/desired-source.ts'
import { createStore } from '../../../orchestrator/store/store.ts'
import { caught } from '../../support/caught.ts'
import { tempFolder } from '../../support/temp-folder.ts'

/** `added` by its path, `own` in the modules folder. */
function withModules() {
  const cwd = tempFolder()
  const config = loadConfig({ env: {}, cwd })
  const store = createStore(config.data)
  onTestFinished(() => store.close())
  const listed = new Set(['added', 'own'])
  const source = { kind: 'folder', path: '/elsewhere/added' } as const
  store.modules.put({ id: 'added', source, addedAt: '2026-01-31T12:00:00.000Z', addedBy: 'api' })
  return new AddedModules({
    config: () => config,
    store,
    desired: new DesiredSource(config, store, () => {}),
    inspectImage: async (reference) => {
      throw new BerthError('IMAGE_UNAVAILABLE', reference)
    },
    exists: (id) => listed.has(id),
    check: async () => undefined,
    scan: async () => {
      listed.delete('added')
      return []
    },
    now: () => new Date(),
  })
}

it('of two who remove one module at once, the second is told that there is none', async () => {
  const modules = withModules()
  const first = modules.remove('added')
  const second = caught(() => modules.remove('added'))
  await first
  expect((await second).code).toBe('MODULE_NOT_FOUND')
})

it('what is in the modules folder is not removed', async () => {
  expect((await caught(() => withModules().remove('own'))).code).toBe('FORBIDDEN')
})
