/**
 * The composition root, the only file that knows every room: makes the parts, joins them, and takes them apart again.
 */
import { performance } from 'node:perf_hooks'
import { createFileDigests } from './catalog/files.ts'
import { readModuleFolder } from './catalog/module-folder.ts'
import { manifestSchema } from './catalog/module-yaml.ts'
import { createCatalogWatcher } from './catalog/watcher.ts'
import type { Config } from './config/config.ts'
import type { ConfigSource } from './config/load.ts'
import { configSchema } from './config/schema.ts'
import { changesForRestart, watchConfig } from './config/watch.ts'
import { steadyClock, systemClock } from './domain/clock.ts'
import { BerthError } from './domain/errors.ts'
import { createDockerEngine, probeDocker } from './engines/docker/docker-engine.ts'
import type { Engine } from './engines/engine.ts'
import { createProcessEngine } from './engines/process/process-engine.ts'
import { type EngineDecision, selectEngine } from './engines/select.ts'
import { untilAborted } from './engines/shared-work.ts'
import { createCallHandler } from './gateway/gateway.ts'
import { type AdminKey, adminKeyFile, ensureAdminKey } from './http/auth/admin-key.ts'
import { noKeys, withKeys } from './http/auth/authenticator.ts'
import { createKeyService } from './http/auth/key-service.ts'
import { inferRoutes } from './http/routes/infer.ts'
import { schemaRoutes } from './http/routes/schemas.ts'
import { createServer, listen } from './http/server.ts'
import type { Services } from './http/services.ts'
import { createDispatcher } from './inference/dispatcher.ts'
import { createMemoryCare } from './inference/memory-care.ts'
import { watchInferences } from './inference/watch.ts'
import { engineEffects } from './lifecycle/engine-effects.ts'
import { createLogFollower } from './lifecycle/log-follower.ts'
import { machineOf } from './lifecycle/resources/machine.ts'
import { Resources } from './lifecycle/resources/resources.ts'
import { createTelemetryObserver } from './lifecycle/telemetry-observer.ts'
import type { Instance } from './lifecycle/workload.ts'
import { AddedModules } from './reconcile/added-modules.ts'
import { DesiredSource } from './reconcile/desired-source.ts'
import { type EngineWatch, watchEngine } from './reconcile/engine-watch.ts'
import { ExternalModules } from './reconcile/external-modules.ts'
import { gpuUses, gpuViews } from './reconcile/gpu-views.ts'
import { findModel, findModelOf } from './reconcile/model-routes.ts'
import { moduleChanges } from './reconcile/module-changes.ts'
import { createModelService, createModuleService } from './reconcile/module-service.ts'
import { Removals } from './reconcile/removals.ts'
import { Supervisor } from './reconcile/supervisor.ts'
import { createStore, type Store } from './store/store.ts'
import { createTelemetry, type Telemetry } from './telemetry/telemetry.ts'

export interface AppOptions {
  readonly config: Config
  /** Where `config` came from, to be looked at again when it changes. */
  readonly source: ConfigSource
  readonly env: NodeJS.ProcessEnv
  /** Folder that holds `module-runner/`, `node_modules/` and `package.json`. */
  readonly repositoryRoot: string
}

export interface RunningApp {
  readonly url: string
  /** Drains, then lets modules go on or stops them as `shutdown` says. Idempotent. */
  close(cause: string): Promise<void>
  /** Settles when it is closed, whoever asked for it. */
  readonly closed: Promise<void>
}

const version = '0.1.0'

interface Engines {
  readonly engine: Engine
  readonly decision: EngineDecision
  readonly inspectImage: (
    reference: string,
    signal: AbortSignal,
  ) => ReturnType<ReturnType<typeof createDockerEngine>['inspectImage']>
}

async function chooseEngine(options: AppOptions, store: Store, telemetry: Telemetry): Promise<Engines> {
  const { config, env, repositoryRoot } = options
  const instance = config.instance ?? store.instance.id
  const docker = config.engine === 'process' ? undefined : await probeDocker(env)
  const decision = selectEngine(config.engine, docker ?? { kind: 'absent', reason: 'it was not asked for' })
  telemetry.logger.info({ engine: decision.engine }, decision.why)
  if (decision.warning) telemetry.logger.warn(decision.warning)
  if (decision.engine === 'docker') {
    const logger = (level: 'debug' | 'info' | 'warn' | 'error', message: string) => telemetry.logger[level](message)
    const engine = createDockerEngine({
      instance,
      folder: store.instance.id,
      repositoryRoot,
      env,
      logger,
      ...config.docker,
    })
    return { engine, decision, inspectImage: (reference, signal) => engine.inspectImage(reference, signal) }
  }
  const engine = createProcessEngine({
    instance,
    dataDirectory: config.data,
    repositoryRoot,
    env,
    logger: telemetry.logger,
  })
  const inspectImage = () =>
    Promise.reject(
      new BerthError(
        'ENGINE_UNSUPPORTED',
        'The embedded engine runs folders only, no images; install Docker to run images.',
        { engine: 'process' },
      ),
    )
  return { engine, decision, inspectImage }
}

export async function startApp(options: AppOptions): Promise<RunningApp> {
  const { config } = options
  const began = performance.now()
  const store = createStore(config.data)
  const telemetry = createTelemetry({ dataDirectory: config.data, logLevel: config.logLevel })
  const stop = new AbortController()
  try {
    const app = await compose(options, store, telemetry, stop)
    telemetry.logger.info({ url: app.url, ms: Math.round(performance.now() - began) }, `Berth answers at ${app.url}`)
    return app
  } catch (error) {
    stop.abort()
    await telemetry.close()
    store.close()
    throw error
  }
}

async function compose(
  options: AppOptions,
  store: Store,
  telemetry: Telemetry,
  stop: AbortController,
): Promise<RunningApp> {
  const { config } = options
  const { logger, metrics, events, moduleLogs } = telemetry
  const instance: Instance = { id: config.instance ?? store.instance.id, secret: store.instance.secret }
  const { engine, decision, inspectImage } = await chooseEngine(options, store, telemetry)
  if (config.auth === 'keys') {
    const key = await ensureAdminKey(store.keys, config.data, config.adminKey)
    logger.info(key.path ? { path: key.path } : {}, adminKeyNotes[key.from](key.path))
    if (key.weak)
      logger.warn('the admin key is so short that it may be guessed: take one made by `openssl rand -hex 32`')
  }

  events.publish({ type: 'orchestrator', to: 'started', cause: `Berth ${version} has been started` })
  const channels = new Map<string, AbortController>()
  const observer = createTelemetryObserver({
    events,
    logs: moduleLogs,
    logger,
    metrics,
    clock: systemClock,
    replicaUp(module, replica, _workload, client, definition) {
      const { calls, base } = definition.manifest
      // Any module of Berth's own runner may ask whether another one is there; an image says by `calls` that it calls.
      if (calls.length === 0 && base.kind === 'protocol') return
      const channel = new AbortController()
      channels.set(`${replica.id}/${replica.generation}`, channel)
      client.calls(createCallHandler({ dispatcher, models: gatewayModels }, module, calls), channel.signal)
    },
    replicaDown(_module, replica) {
      channels.get(`${replica.id}/${replica.generation}`)?.abort()
      channels.delete(`${replica.id}/${replica.generation}`)
    },
  })
  const follower = createLogFollower(engine, moduleLogs, systemClock, stop.signal)
  let watch: EngineWatch | undefined
  const engineTried = Promise.withResolvers<void>()
  const effects = engineEffects({
    engine,
    instance,
    nextGeneration: (replica) => store.nextGeneration(replica),
    loaded: store.loaded,
    async ready() {
      await engineTried.promise
      if (watch?.problem) throw watch.problem
    },
    followLog: (module, replica, workload) => follower.follow(module, replica, workload.id),
  })
  let current = config
  const resources = new Resources({
    machine: () => machineOf(engine.capabilities, current.memoryBytes),
    now: () => steadyClock.now(),
  })
  const supervisor = new Supervisor({
    engine,
    instance,
    effects,
    resources,
    observer,
    clock: steadyClock,
    external: { refresh: () => external.refresh(), replicasOf: (id) => external.replicasOf(id) },
    random: Math.random,
    reconciled: (ms) => metrics.reconciled(ms),
    log: (level, message, fields) => logger[level](fields ?? {}, message),
  })
  const dispatcher = createDispatcher({
    route: ({ module, model }) =>
      module === undefined ? findModel(supervisor, model) : findModelOf(supervisor, module, model),
    watch: watchInferences(metrics),
    relayed: createMemoryCare(),
  })
  const models = createModelService({ supervisor, module: (id) => modules.get(id) })
  const gatewayModels = {
    find(name: string) {
      const { model } = findModel(supervisor, name)
      return { model, configuration: supervisor.desired.models.get(model)?.configuration ?? {} }
    },
    load: async (name: string, { caller, signal }: { caller: string; signal: AbortSignal }) =>
      void (await models.load(name, { wait: true, signal, caller })),
    offload: async (name: string, signal: AbortSignal) => void (await models.offload(name, { wait: true, signal })),
    installed: (id: string) => supervisor.records.has(id),
  }
  const desired = new DesiredSource(config, store, (state) => {
    for (const change of moduleChanges(supervisor.desired, state)) events.publish(change)
    supervisor.apply(state)
  })
  const external: ExternalModules = new ExternalModules({
    engine,
    desired,
    context: () => ({ settings: current.moduleSettings, defaults: { queue: current.queue } }),
  })
  const catalog = createCatalogWatcher({
    modulesFolder: config.modules,
    extraFolders: store.modules.list().flatMap(({ source }) => (source.kind === 'folder' ? [source.path] : [])),
    settings: config.moduleSettings,
    defaults: { queue: config.queue },
    onChange: (entries) => desired.setFolders(entries),
    onProblem: (error) => logger.warn(error.details, error.message),
  })
  const added = new AddedModules({
    config: () => current,
    store,
    desired,
    inspectImage,
    exists: (id) => supervisor.records.has(id),
    check: (folder) =>
      readModuleFolder(folder, {
        digests: createFileDigests(),
        settings: current.moduleSettings,
        defaults: { queue: current.queue },
      }),
    scan: (extraFolders) => catalog.update({ extraFolders }),
    now: () => new Date(),
  })
  await catalog.start()
  const stopWatchingConfig = config.reload
    ? watchConfig({ source: options.source, current, onChange, onProblem })
    : () => {}
  function onProblem(error: BerthError): void {
    logger.warn(error.details, `the configuration stays as it was: ${error.message}`)
    events.publish({ type: 'configuration', to: 'refused', cause: error.message })
  }
  function onChange(next: Config): void {
    const waiting = changesForRestart(current, next)
    current = next
    if (waiting.length > 0)
      logger.warn({ keys: waiting }, `changes of ${waiting.join(', ')} hold after a restart of Berth`)
    events.publish({ type: 'configuration', to: 'applied', cause: `${next.file ?? 'berth.yaml'} has changed` })
    desired.setConfig(next)
    catalog
      .update({ settings: next.moduleSettings, defaults: { queue: next.queue } })
      .then(() => added.restore(stop.signal))
      .then(() => external.reread())
      .catch((error: unknown) =>
        logger.error({ err: error }, 'the changed configuration could not be applied to modules'),
      )
  }
  const removals = new Removals({
    store,
    supervisor,
    engine,
    async forgetTelemetry(id) {
      await moduleLogs.remove(id)
      metrics.forget(id)
    },
    onProblem: (module, error) =>
      logger.warn(
        { module, err: error },
        'a removed module has left something behind; it is tried again at the next start',
      ),
  })
  watch = watchEngine({
    engine,
    supervisor,
    async onConnected(signal) {
      await removals.resume()
      // An image that has to be pulled first is not waited for: everything else starts without it.
      const soon = AbortSignal.any([signal, AbortSignal.timeout(restoreMs)])
      await added.restore(soon)
      if (soon.aborted) added.restore(signal).catch((error: unknown) => logger.warn({ err: error }, 'added images'))
    },
    log: (level, message) => logger[level](message),
    onState: (to, cause) => events.publish({ type: 'engine', to, cause }),
    signal: stop.signal,
  })
  await watch.firstAttempt
  // Not to be waited out: somebody has to decide whose the instance is.
  if (watch.problem?.code === 'CONFIG_INVALID') throw watch.problem
  engineTried.resolve()

  const modules = createModuleService({
    supervisor,
    capabilities: () => engine.capabilities,
    setDisabled(id, disabled) {
      store.disabled.set(id, disabled)
      desired.refresh()
    },
    setScale(id, scale) {
      store.scales.set(id, scale)
      desired.refresh()
    },
    add: (source, signal) => added.add(source, signal),
    async remove(id) {
      const writer = supervisor.records.get(id)?.writer
      await added.remove(id)
      // It is on record no more, so nobody could ask for the rest again: that goes on when the caller leaves.
      const gone = removals.finish(id, writer, AbortSignal.any([stop.signal, AbortSignal.timeout(removeMs)]))
      gone.catch((error: unknown) =>
        logger.warn({ module: id, err: error }, 'a removed module has left something behind'),
      )
      return { gone }
    },
  })
  metrics.observeGpus(() => gpuUses(resources.devices()))
  metrics.observeModules(() => modules.list())

  const services: Services = {
    modules: {
      ...modules,
      logs(id, options) {
        modules.get(id)
        return moduleLogs.read(id, options)
      },
    },
    models,
    keys: createKeyService({
      keys: store.keys,
      required: config.auth === 'keys',
      adminKey:
        config.adminKey === undefined
          ? { file: adminKeyFile(config.data) }
          : { variable: 'BERTH_ADMIN_KEY or BERTH_ADMIN_KEY_FILE' },
      nowMs: systemClock.now,
      log: (message) => logger.info(message),
      onRemoved: (caller) => http.endStreamsOf(caller),
    }),
    environments: {
      async list() {
        const wanted = environmentsInUse(supervisor)
        return (await engine.environments.list()).map((info) => ({ ...info, modules: wanted.get(info.key) ?? [] }))
      },
      prune: () => engine.environments.prune(new Set(environmentsInUse(supervisor).keys())),
    },
    system: {
      version,
      instance: instance.id,
      engine: {
        name: engine.name,
        get description() {
          return engine.capabilities.description
        },
        reason: decision.why,
      },
      gpus: () => gpuViews(engine.capabilities.gpus, resources.devices()),
      plan: (signal) => untilAborted(supervisor.plan(), signal),
      async readiness() {
        const reasons: string[] = []
        if (watch?.problem) reasons.push(watch.problem.message)
        else await engine.ping(AbortSignal.timeout(5_000)).catch((error: Error) => reasons.push(error.message))
        try {
          store.check()
        } catch (error) {
          reasons.push(error instanceof Error ? error.message : String(error))
        }
        return reasons
      },
      async shutdown(signal) {
        tellStopping('berth down')
        http.drain()
        // Nothing new is taken from now on, so it ends also when something could not be stopped.
        const end = () => close('berth down').catch((error: unknown) => logger.error(error, 'the shutdown failed'))
        try {
          return { stopped: await supervisor.stopAll(signal) }
        } finally {
          setImmediate(end)
        }
      },
    },
  }

  const http = createServer({
    config,
    services,
    auth: config.auth === 'keys' ? withKeys(store.keys, systemClock.now) : noKeys(),
    telemetry,
    plugins: [
      (app) => inferRoutes(app, { dispatcher, models }),
      (app) => schemaRoutes(app, { config: configSchema, module: manifestSchema }),
    ],
  })
  const url = await listen(http, config.listen)

  let stopping = false
  function tellStopping(cause: string): void {
    if (!stopping) events.publish({ type: 'orchestrator', to: 'stopping', cause })
    stopping = true
  }
  let closing: Promise<void> | undefined
  const closed = Promise.withResolvers<void>()
  function close(cause: string): Promise<void> {
    closing ??= shutDown(cause).then(closed.resolve, (error: unknown) => {
      closed.reject(error)
      throw error
    })
    return closing
  }
  async function shutDown(cause: string): Promise<void> {
    logger.info({ cause }, `shuts down: ${cause}`)
    tellStopping(cause)
    http.drain()
    await drained(supervisor)
    if (current.shutdown === 'stop') {
      await supervisor.stopAll(AbortSignal.timeout(stopMs)).catch((error: unknown) => {
        logger.warn({ err: error }, 'not everything could be stopped: the next start takes over what still runs')
      })
    }
    await http.close()
    stopWatchingConfig()
    stop.abort()
    await catalog.close()
    for (const channel of channels.values()) channel.abort()
    supervisor.close()
    await engine.close()
    await telemetry.close()
    store.close()
  }
  return { url, close, closed: closed.promise }
}

const adminKeyNotes: Readonly<Record<AdminKey['from'], (path: string | undefined) => string>> = {
  environment: () => 'the admin key is the one of the environment',
  file: (path) => `the admin key is in ${path}`,
  made: (path) => `the admin key is in ${path}`,
  others: () => 'there is no key named admin; others with the scope admin are known',
}

/** How long added images may take to be looked at before the engine counts as connected. */
const restoreMs = 10_000

/** How long requests under way may go on after SIGTERM. */
const drainMs = 30_000
/** How long `shutdown: stop` waits for modules to end, drain included. */
const stopMs = 60_000
/** As long as the supervisor waits for the workloads of a removed module. */
const removeMs = 600_000

async function drained(supervisor: Supervisor): Promise<void> {
  const limit = AbortSignal.timeout(drainMs)
  const idle = [...supervisor.records.values()].flatMap(({ writer }) =>
    writer
      ? [
          writer.until(
            (state) =>
              state.waiters.length === 0 && [...state.replicas.values()].every((replica) => replica.inflight === 0),
            limit,
          ),
        ]
      : [],
  )
  await Promise.allSettled(idle)
}

function environmentsInUse(supervisor: Supervisor): Map<string, string[]> {
  const wanted = new Map<string, string[]>()
  for (const { id, writer } of supervisor.records.values()) {
    const key = writer?.state.preparation.environment?.key
    if (key !== undefined) wanted.set(key, [...(wanted.get(key) ?? []), id])
  }
  return wanted
}

/** Removes what an orchestrator of this data folder has left running; refuses while one has the folder. */
export async function sweep(options: AppOptions): Promise<string[]> {
  const { config } = options
  const store = createStore(config.data)
  const telemetry = createTelemetry({ dataDirectory: config.data, logLevel: config.logLevel })
  try {
    const { engine } = await chooseEngine(options, store, telemetry)
    await engine.connect(AbortSignal.timeout(30_000))
    const left = await engine.list()
    await Promise.all(left.map((workload) => engine.stop(workload.id, { graceMs: 10_000 })))
    const installs = (await engine.removeInstalls?.()) ?? []
    await engine.close()
    return [...left.map((workload) => workload.replica), ...installs]
  } finally {
    await telemetry.close()
    store.close()
  }
}
