import { describe, expect, it } from 'vitest'
import type { CatalogEntry } from '../../../orchestrator/catalog/catalog.ts'
import type { Config } from '../../../orchestrator/config/config.ts'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { ForeignWorkload } from '../../../orchestrator/engines/engine.ts'
import { DesiredSource } from '../../../orchestrator/reconcile/desired-source.ts'
import { ExternalModules } from '../../../orchestrator/reconcile/external-modules.ts'
import { readContainers } from '../../../orchestrator/reconcile/read-containers.ts'
import type { DesiredState } from '../../../orchestrator/reconcile/supervisor.ts'
import { createStore } from '../../../orchestrator/store/store.ts'
import { testManifest } from '../../support/definitions.ts'
import { tempDirectory } from '../../support/temp-folder.ts'

const label = '{"id":"prices","models":["prices"]}'
const context = { settings: {}, defaults: {} }

function container(over: Partial<ForeignWorkload> & { readonly container: string; readonly label?: string }) {
  const { label: text = label, ...rest } = over
  return {
    id: `id of ${over.container}`,
    group: 'compose service shop/prices',
    image: 'shop/prices:1',
    labels: { 'dev.berth.protocol': '1', 'dev.berth.module': text },
    createdMs: 1_000_000,
    state: 'running',
    endpoint: { kind: 'tcp', host: '10.0.0.1', port: 8000 },
    ...rest,
  } as const satisfies ForeignWorkload
}
const read = (...found: ForeignWorkload[]) => readContainers(found, context)
const replicas = (module: ReturnType<typeof read>[number] | undefined) =>
  module?.replicas.map(({ observed }) => observed.replica)

describe('containers that somebody else runs', () => {
  it('are one module, whose replicas are called like them and carry the token of each', () => {
    const [module, ...more] = read(
      container({ container: 'shop-prices-1', token: 'secret' }),
      container({ container: 'shop-prices-2' }),
    )
    expect(more).toEqual([])
    expect(module?.entry).toMatchObject({
      id: 'prices',
      source: { kind: 'external', reference: 'compose service shop/prices' },
      manifest: { id: 'prices', format: 'image', base: { kind: 'protocol' }, models: { prices: {} } },
    })
    expect(module?.entry.problem).toBeUndefined()
    expect(module?.replicas).toMatchObject([
      { observed: { replica: 'shop-prices-1', module: 'prices', generation: 1000 }, workload: { token: 'secret' } },
      { observed: { replica: 'shop-prices-2' }, workload: { token: undefined, container: 'shop-prices-2' } },
    ])
  })

  it('have a later generation when one comes back under its old name', () => {
    const generation = (createdMs: number) =>
      read(container({ container: 'c', createdMs }))[0]?.replicas[0]?.observed.generation ?? 0
    expect(generation(3_000_000)).toBeGreaterThan(generation(2_000_000))
  })

  it('that do not run keep the module listed, without a replica', () => {
    const { endpoint: _, ...stopped } = container({ container: 'c', state: 'exited' })
    const [module] = read(stopped)
    expect(module?.entry.manifest?.id).toBe('prices')
    expect(module?.replicas).toEqual([])
  })

  it('contradict each other: the newest that runs is right, the others are not used, and the error names all', () => {
    const other = '{"id":"prices","models":["prices","taxes"]}'
    const [module] = read(
      container({ container: 'new', createdMs: 3_000_000, label: other }),
      container({ container: 'old', createdMs: 1_000_000 }),
      container({ container: 'newest', createdMs: 9_000_000, state: 'exited', label: '{"id":"prices","models":[]}' }),
    )
    expect(replicas(module)).toEqual(['new'])
    expect(Object.keys(module?.entry.manifest?.models ?? {})).toEqual(['prices', 'taxes'])
    expect(module?.entry.problem).toMatchObject({
      code: 'DEPENDENCY_CONFLICT',
      message: expect.stringMatching(/containers new and old .* The newest, new, is used/),
      details: { module: 'prices', containers: ['new', 'old'] },
    })
  })

  it('say the same in JSON and in YAML, of one image or another, whoever runs them', () => {
    const [module] = read(
      container({
        container: 'a',
        label: 'id: prices\nmodels: [prices]\n',
        image: 'other:2',
        group: 'compose service x/y',
      }),
      container({ container: 'b' }),
    )
    expect(module?.entry.problem).toBeUndefined()
    expect(replicas(module)).toHaveLength(2)
  })

  it('with a broken label are a module with its error, which names container and label', () => {
    const [module, ...more] = read(
      container({ container: 'shop-prices-1', label: '{"id":"prices","modls":[]}' }),
      container({ container: 'shop-prices-2', label: '{"id":"prices","modls":[]}' }),
    )
    expect(more).toEqual([])
    expect(module?.entry).toMatchObject({
      id: 'prices',
      error: {
        code: 'MANIFEST_INVALID',
        message: expect.stringMatching(
          /label dev.berth.module of the container shop-prices-1 of compose service shop\/prices/,
        ),
        details: { module: 'prices', container: 'shop-prices-1' },
      },
    })
  })

  it('without a label for the manifest are listed once for a service, under the name of a container', () => {
    const marks = { 'dev.berth.protocol': '1' }
    const [module, ...more] = read(
      { ...container({ container: 'shop-prices-1' }), labels: marks },
      { ...container({ container: 'shop-prices-2' }), labels: marks },
    )
    expect(more).toEqual([])
    expect(module?.entry).toMatchObject({ id: 'shop-prices-1', error: { code: 'MANIFEST_INVALID' } })
    expect(module?.entry.error?.message).toContain('has no label dev.berth.module')
  })

  it('with a broken label beside sound ones are left out, and the error tells', () => {
    const [module] = read(
      container({ container: 'bad', createdMs: 9_000_000, label: '{"id":"prices","modls":[]}' }),
      container({ container: 'good' }),
    )
    expect(replicas(module)).toEqual(['good'])
    expect(module?.entry).toMatchObject({ id: 'prices', problem: { code: 'MANIFEST_INVALID' } })
  })

  it('out of reach are told of beside those in reach', () => {
    const problem = new BerthError('RUNNER_UNREACHABLE', 'it is elsewhere')
    const { endpoint: _, ...away } = container({ container: 'away', problem })
    const [module] = read(away, container({ container: 'near' }))
    expect(replicas(module)).toEqual(['near'])
    expect(module?.entry.problem).toBe(problem)
  })

  it('of another version of the protocol are refused by name', () => {
    const [module] = read({
      ...container({ container: 'c' }),
      labels: { 'dev.berth.protocol': '7', 'dev.berth.module': label },
    })
    expect(module?.entry.error).toMatchObject({
      code: 'RUNNER_PROTOCOL',
      message: expect.stringContaining('container c'),
    })
  })

  it('follow the settings that berth.yaml has for their module', () => {
    const settings = { prices: { concurrency: 7 } }
    const [module] = readContainers([container({ container: 'c' })], { settings, defaults: {} })
    expect(module?.entry.manifest?.concurrency).toBe(7)
  })
})

describe('the catalog with containers of somebody else', () => {
  function catalog() {
    const folder = tempDirectory({})
    const store = createStore(folder.folder)
    let state: DesiredState | undefined
    let changes = 0
    const desired = new DesiredSource({ models: {} } as Config, store, (next) => {
      state = next
      changes += 1
    })
    let found: readonly ForeignWorkload[] = []
    const external = new ExternalModules({
      engine: { discover: async () => found },
      desired,
      context: () => context,
    })
    return {
      desired,
      external,
      list: async (...next: ForeignWorkload[]) => {
        found = next
        await external.refresh()
      },
      entry: (id: string): CatalogEntry | undefined => state?.modules.find((each) => each.id === id),
      changes: () => changes,
      [Symbol.dispose]() {
        store.close()
        folder.remove()
      },
    }
  }

  it('follows what is there, and is left alone by a listing that says the same', async () => {
    using at = catalog()
    await at.list(container({ container: 'a' }))
    expect(at.entry('prices')?.manifest).toBeDefined()
    const before = at.changes()
    await at.list(container({ container: 'a' }), container({ container: 'b' }))
    expect(at.changes()).toBe(before)
    expect(at.external.replicasOf('prices')).toHaveLength(2)
    await at.list()
    expect(at.entry('prices')).toBeUndefined()
    expect(at.external.replicasOf('prices')).toEqual([])
  })

  it('keeps the folder of the same id, and lists the containers beside it with the error', async () => {
    using at = catalog()
    const manifest = testManifest({ id: 'prices' })
    at.desired.setFolders([{ id: 'prices', source: manifest.source, manifest }])
    await at.list(container({ container: 'a' }))
    expect(at.entry('prices')?.manifest).toBe(manifest)
    expect(at.entry('prices-external')?.error).toMatchObject({
      code: 'DEPENDENCY_CONFLICT',
      message: expect.stringMatching(
        /compose service shop\/prices calls its module prices, and .* is the module prices already/,
      ),
    })
    at.desired.setFolders([])
    expect(at.entry('prices')?.source.kind).toBe('external')
    expect(at.entry('prices-external')).toBeUndefined()
  })
})
