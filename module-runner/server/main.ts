import { rmSync } from 'node:fs'
import { flushCompileCache } from 'node:module'
import { CallBook } from './calls.ts'
import { messageOf } from './errors.ts'
import { startGpuMemory } from './gpu-memory.ts'
import { createLogSink, type LogSink } from './log-output.ts'
import { collect, startMemoryCare } from './memory.ts'
import { ModelGate } from './model-gate.ts'
import { runtimeFiles } from './runtime-files.ts'
import { createRunnerServer, type RunnerServer } from './server.ts'
import { serviceConfiguration } from './service-configuration.ts'
import { readSettings, type Settings } from './settings.ts'
import { WorkerLink } from './worker/link.ts'
import { Supervisor } from './worker/supervisor.ts'

/** Start of the runner in a module's container: settings, server, worker; then the signals that end it. */
const mostSlots = 256
const flushMs = 1_000
/** When the start's garbage is cleared away. */
const startedMs = 1_000
const pollMs = 20

await main()

async function main(): Promise<void> {
  const log = createLogSink(1)
  try {
    await run(log)
  } catch (error) {
    log.write('critical', 'runner', messageOf(error))
    await log.flush(flushMs)
    process.exit(1)
  }
}

async function run(log: LogSink): Promise<void> {
  const { module, listen, token, bodyLimit, exitWithStdin } = readSettings(process.env)
  const files = runtimeFiles(listen)
  const link = await WorkerLink.listen(files.socket)
  const calls = new CallBook(module.id, () => supervisor.current)
  const supervisor = new Supervisor({
    module,
    link,
    log,
    configFile: files.configuration,
    serviceConfiguration: () => serviceConfiguration(module.paths.module, module.configuration),
    env: process.env,
    mostSlots,
    events: {
      call: (call) => calls.take(call),
      window: (id, frames) => calls.window(id, frames),
      workerGone: () => calls.drop(),
    },
  })
  // Whatever ends the runner, the module's processes do not outlive it.
  process.on('exit', () => {
    supervisor.kill()
    files.remove()
  })
  const gate = new ModelGate((model) => simultaneous(module.models[model], module.concurrency ?? 1))
  const memory = startMemoryCare()
  const gpuMemory = startGpuMemory(process.env)
  let stopping = false
  const server = createRunnerServer({
    module,
    supervisor,
    gate,
    calls,
    memory,
    gpuMemory,
    bodyLimit,
    token,
    stopping: () => stopping,
  })

  async function stop(signal: string): Promise<void> {
    if (stopping) process.exit(1)
    stopping = true
    log.write('info', 'runner', `${signal}: finishing what runs, then the models are offloaded`)
    const end = Date.now() + module.drainMs
    while (gate.inflight > 0 && Date.now() < end) await delay(pollMs)
    await supervisor.stop(module.callMs)
    await Promise.race([closed(server), delay(flushMs)])
    await log.flush(flushMs)
    process.exit(0)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop(signal))
  if (exitWithStdin) {
    process.stdin.on('error', () => process.exit(0))
    process.stdin.on('close', () => process.exit(0))
    process.stdin.resume()
  }

  supervisor.start()
  await listenOn(server, listen)
  flushCompileCache()
  setTimeout(collect, startedMs).unref()
}

/** Takes the place of a socket that a killed runner left behind. */
function listenOn({ http }: RunnerServer, where: Settings['listen']): Promise<void> {
  return new Promise((resolve, reject) => {
    http.once('error', reject)
    if ('port' in where) return http.listen(where.port, '0.0.0.0', resolve)
    rmSync(where.socket, { force: true })
    return http.listen(where.socket, resolve)
  })
}

/** What is being written still goes out. */
function closed({ http, plain }: RunnerServer): Promise<void> {
  return new Promise((resolve) => {
    http.close(() => resolve())
    http.closeIdleConnections()
    plain.end()
  })
}

/** How many inferences of a model may run at once, by its configuration, or the module's. */
function simultaneous(configuration: Record<string, unknown> | undefined, otherwise: number): number {
  const users = configuration?.max_simul_users
  return typeof users === 'number' && users >= 1 ? users : otherwise
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
