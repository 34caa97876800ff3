import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { BerthError } from '../../../orchestrator/domain/errors.ts'
import type { LogRecord, ModelView, ModuleView } from '../../../orchestrator/domain/views.ts'
import type { App } from '../../../orchestrator/http/app.ts'
import { noKeys } from '../../../orchestrator/http/auth/authenticator.ts'
import { createKeyService } from '../../../orchestrator/http/auth/key-service.ts'
import { createServer, listen, type ServerOptions } from '../../../orchestrator/http/server.ts'
import type { ActionOptions, Services } from '../../../orchestrator/http/services.ts'
import type { StoredKey, StoredKeys } from '../../../orchestrator/store/keys.ts'
import { createTelemetry, type Telemetry } from '../../../orchestrator/telemetry/telemetry.ts'

/** What routes stand on, in memory: two modules, one model, and a record of what was asked for. */
export interface FakeServices extends Services {
  readonly asked: string[]
  readonly records: LogRecord[]
  reasons: readonly string[]
  /** What every action does before it answers. */
  during: (options: ActionOptions) => Promise<void>
}

export const moduleView = (id: string, more: Partial<ModuleView> = {}): ModuleView => ({
  id,
  format: 'service',
  desired: 'enabled',
  state: 'idle',
  source: `/modules/${id}`,
  replicas: [],
  models: [],
  security: { score: 90, findings: [] },
  ...more,
})

const modelView: ModelView = {
  name: 'minilm',
  module: 'embeddings',
  state: 'idle',
  replicas: [],
  queued: 0,
  inflight: 0,
}

export function fakeServices(): FakeServices {
  const asked: string[] = []
  const known = new Map(['embeddings', 'two words'].map((id) => [id, moduleView(id)]))
  const get = (id: string): ModuleView => {
    const view = known.get(id)
    if (view === undefined) throw new BerthError('MODULE_NOT_FOUND', `There is no module ${id}.`, { module: id })
    return view
  }
  const act = async (name: string, id: string, options: ActionOptions): Promise<ModuleView> => {
    asked.push(`${name} ${id} wait=${options.wait}`)
    const view = name === 'add' ? moduleView('added') : get(id)
    await services.during(options)
    return { ...view, state: options.wait ? 'ready' : 'starting' }
  }
  const model = (name: string): ModelView => {
    if (name !== 'minilm') throw new BerthError('MODEL_NOT_FOUND', `There is no model ${name}.`, { model: name })
    return modelView
  }
  const services: FakeServices = {
    asked,
    records: [],
    reasons: [],
    during: () => Promise.resolve(),
    modules: {
      list: () => [...known.values()],
      get,
      add: (source, options) => act('add', source, options),
      async remove(id, options) {
        const view = await act('remove', id, options)
        known.delete(id)
        return options.wait ? undefined : view
      },
      enable: (id, options) => act('enable', id, options),
      disable: (id, options) => act('disable', id, options),
      restart: (id, options) => act('restart', id, options),
      async scale(id, scale, options) {
        const view = await act(`scale ${JSON.stringify(scale)}`, id, options)
        return scale === undefined ? view : { ...view, scale }
      },
      async load(id, models, signal) {
        await act('rpc/load', id, { wait: true, signal })
        asked.push(JSON.stringify(models))
        return Object.keys(models)
      },
      async offload(id, models, signal) {
        await act('rpc/offload', id, { wait: true, signal })
        return models
      },
      async *logs(_id, { tail }) {
        yield* tail === undefined ? services.records : services.records.slice(-tail)
      },
    },
    models: {
      list: () => [modelView],
      get: model,
      resolve: (name) =>
        name === 'nick' ? { model: 'minilm', module: 'embeddings' } : { model: name, module: 'embeddings' },
      async load(name, options) {
        asked.push(`load ${name} wait=${options.wait}`)
        await services.during(options)
        return get(model(name).module)
      },
      async offload(name, options) {
        asked.push(`offload ${name} wait=${options.wait}`)
        return get(model(name).module)
      },
    },
    keys: createKeyService({
      keys: memoryKeys(),
      required: false,
      adminKey: { variable: 'BERTH_ADMIN_KEY' },
      nowMs: Date.now,
      log() {},
      onRemoved() {},
    }),
    environments: {
      list: () => Promise.resolve([{ key: 'abc', bytes: 10, modules: ['embeddings'] }]),
      prune: () => Promise.resolve([{ key: 'old' }]),
    },
    system: {
      readiness: () => Promise.resolve(services.reasons),
      version: '0.1.0',
      instance: 'test',
      engine: { name: 'memory', description: 'memory engine', reason: 'a test' },
      plan: () => Promise.resolve([{ action: 'adopt', module: 'm', replica: 'm-0', cause: 'm-0 was running already' }]),
      gpus: () => [
        {
          id: 'nvidia.com/gpu=0',
          kind: 'nvidia',
          memory: 8_000,
          used: 3_000,
          holders: ['ocr'],
          allocations: [
            { module: 'ocr', replica: 'ocr-0', exclusive: false, declared: 2_000, measured: 3_000, held: 3_000 },
          ],
        },
        { id: 'nvidia.com/gpu=all', kind: 'nvidia', holders: [], allocations: [] },
      ],
      async shutdown() {
        asked.push('shutdown')
        return { stopped: ['embeddings'] }
      },
    },
  }
  return services
}

export interface TestServer {
  readonly app: App
  readonly services: FakeServices
  readonly telemetry: Telemetry
  /** What went to the log. */
  readonly logged: string[]
}

export type TestServerOptions = Partial<Omit<ServerOptions, 'services' | 'telemetry' | 'config'>> & {
  readonly config?: Partial<ServerOptions['config']>
  readonly services?: FakeServices
}

/** A server that ends with its test. */
export async function testServer(options: TestServerOptions = {}): Promise<TestServer> {
  const logged: string[] = []
  const dataDirectory = await temporaryFolder()
  const telemetry = createTelemetry({
    dataDirectory,
    logLevel: 'debug',
    output: { write: (line) => logged.push(line) },
  })
  const services = options.services ?? fakeServices()
  const app = createServer({
    services,
    telemetry,
    auth: options.auth ?? noKeys(),
    ...(options.plugins === undefined ? {} : { plugins: options.plugins }),
    config: {
      listen: { host: '127.0.0.1', port: 0 },
      auth: 'none',
      allowedHosts: [],
      bodyLimitBytes: 64 * 1024,
      ...options.config,
    },
  })
  onTestFinished(async () => {
    await app.close()
    await telemetry.close()
  })
  await app.ready()
  return { app, services, telemetry, logged }
}

export async function listeningServer(options: TestServerOptions = {}): Promise<TestServer & { readonly url: string }> {
  const server = await testServer(options)
  return { ...server, url: await listen(server.app, { host: '127.0.0.1', port: 0 }) }
}

export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-test-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true, maxRetries: 5 }))
  return folder
}

export function memoryKeys(): StoredKeys & { readonly records: Map<string, StoredKey> } {
  const records = new Map<string, StoredKey>()
  return {
    records,
    find: (hash) => [...records.values()].find((record) => record.hash === hash),
    get: (name) => records.get(name),
    list: () => [...records.values()],
    put: (record) => void records.set(record.name, record),
    remove: (name) => records.delete(name),
  }
}
