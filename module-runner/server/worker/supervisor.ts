import type { RunnerState } from '../../protocol.ts'
import { RunnerError, shuttingDown, toRunnerError } from '../errors.ts'
import { writeExact } from '../exact-json.ts'
import type { LogSink } from '../log-output.ts'
import { cannotStart, interpreterOf, type WorkerFiles, writeConfiguration } from './before-start.ts'
import { moduleEnvironment, startChild, type WorkerChild } from './child.ts'
import { exitError, type WorkerExit } from './exit-cause.ts'
import { frames } from './frames.ts'
import type { WorkerLink } from './link.ts'
import { Worker, type WorkerEvents } from './worker.ts'

/**
 * Keeps one worker alive: starts it, tells its state, replaces it when it dies or hangs, and gives up for a while when it
 * dies again and again. The only place where a worker is started or ended.
 */
export interface SupervisorOptions extends WorkerFiles {
  readonly link: WorkerLink
  readonly log: LogSink
  readonly env: Readonly<Record<string, string | undefined>>
  readonly mostSlots: number
  readonly events: Pick<WorkerEvents, 'call' | 'window'> & { workerGone(): void }
}

/** A worker that ends sooner than this after its start counts towards a crash loop. */
const quickDeathMs = 30_000
/** Waits before the starts that follow the first, second ... quick death; after the last one it is left alone. */
const backOffMs: readonly number[] = [0, 500, 2_000]
const connectMs = 120_000

export class Supervisor {
  readonly #options: SupervisorOptions
  #worker: Worker | undefined
  #imported = false
  #loaded = new Set<string>()
  #failure: RunnerError | undefined
  #failureIsFinal = false
  #restarts = -1
  #quickDeaths = 0
  /** Why we have ended the worker that is about to go. */
  #replaced: RunnerError | undefined
  /** The same, kept when it has gone. */
  #lastReplaced: RunnerError | undefined
  #stopping = false
  #retry: NodeJS.Timeout | undefined
  #waiting: { resolve: (worker: Worker) => void; reject: (error: RunnerError) => void }[] = []

  constructor(options: SupervisorOptions) {
    this.#options = options
  }

  get state(): RunnerState {
    if (this.#failure !== undefined) return 'failed'
    if (!this.#imported) return 'starting'
    return this.#loaded.size > 0 ? 'ready' : 'idle'
  }

  get failure(): RunnerError | undefined {
    return this.#failure
  }

  get loaded(): readonly string[] {
    return [...this.#loaded]
  }

  isLoaded(model: string): boolean {
    return this.#loaded.has(model)
  }

  /** Workers started after the first. */
  get restarts(): number {
    return Math.max(0, this.#restarts)
  }

  /** The worker, if it can be given work now. */
  get current(): Worker | undefined {
    return this.#imported ? this.#worker : undefined
  }

  /** Starts the first worker. What goes wrong shows in `state` and `failure`. */
  start(): void {
    this.#restarts += 1
    this.#start().catch((error: unknown) => this.#fail(toRunnerError(error), true))
  }

  /** The worker once it has imported the module. Rejects with what keeps it from that, or when the signal aborts. */
  ready(signal: AbortSignal): Promise<Worker> {
    const worker = this.current
    if (worker !== undefined) return Promise.resolve(worker)
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#waiting = this.#waiting.filter((one) => one !== waiting)
        reject(new RunnerError('CLIENT_CLOSED', 'The caller left.'))
      }
      const waiting = {
        resolve: (ready: Worker) => {
          signal.removeEventListener('abort', onAbort)
          resolve(ready)
        },
        reject: (error: RunnerError) => {
          signal.removeEventListener('abort', onAbort)
          reject(error)
        },
      }
      this.#waiting.push(waiting)
      signal.addEventListener('abort', onAbort, { once: true })
    })
  }

  /**
   * Loads models; `json` is the object of their configurations as JSON text. A worker that is at it when the signal aborts
   * is stuck: it is killed and replaced. After a crash loop this is what starts a worker again.
   */
  async load(names: readonly string[], json: string, signal: AbortSignal): Promise<void> {
    if (this.#failure !== undefined && !this.#failureIsFinal) this.#startAgain()
    for (;;) {
      const worker = await this.ready(signal)
      try {
        await worker.run(frames.load, json, signal, () => this.replace('a load took longer than its caller waited'))
        break
      } catch (error) {
        // Behind work that another caller gave up: the next worker does it.
        if (error !== this.#lastReplaced || signal.aborted || this.#stopping) throw error
      }
    }
    for (const name of names) this.#loaded.add(name)
  }

  /** Offloads those of the models that are loaded, and answers which. */
  async offload(names: readonly string[], signal: AbortSignal): Promise<readonly string[]> {
    const worker = this.current
    const known = [...new Set(names)].filter((name) => this.#loaded.has(name))
    if (worker === undefined || known.length === 0) return []
    await worker.run(frames.offload, writeExact(known), signal, () =>
      this.replace('an offload took longer than its caller waited'),
    )
    for (const name of known) this.#loaded.delete(name)
    return known
  }

  /** Kills a worker that hangs; the next one starts at once. */
  replace(reason: string): void {
    // Where none runs, the reason must not be told of the next one's end.
    if (this.#worker === undefined) return
    const { module } = this.#options
    this.#replaced = new RunnerError('WORKLOAD_EXITED', `The worker of module ${module.id} was replaced: ${reason}.`, {
      module: module.id,
    })
    this.#lastReplaced = this.#replaced
    this.#worker.child.kill()
  }

  /** Lets the worker offload its models and exit; kills it, and all that it started, after `limitMs`. */
  async stop(limitMs: number): Promise<void> {
    this.#stopping = true
    clearTimeout(this.#retry)
    this.#replaced = shuttingDown(this.#options.module.id)
    this.#rejectWaiting(this.#replaced)
    const worker = this.#worker
    if (worker === undefined) return
    if (this.#imported) worker.quit()
    else worker.child.kill()
    const limit = setTimeout(() => worker.child.kill(), limitMs)
    await worker.child.exited
    clearTimeout(limit)
  }

  /** SIGKILL for the worker and all that it started, now. */
  kill(): void {
    this.#stopping = true
    this.#worker?.child.kill()
  }

  #startAgain(): void {
    this.#failure = undefined
    clearTimeout(this.#retry)
    this.start()
  }

  async #start(): Promise<void> {
    const { module, link, log } = this.#options
    const started = Date.now()
    const python = await interpreterOf(module)
    await writeConfiguration(this.#options)
    let worker: Worker | undefined
    const token = link.admit((hello, socket, rest) => {
      if (worker === undefined) socket.destroy()
      else worker.arrive(hello, socket, rest)
    })
    const child = await this.#startChild(python, token).catch((error: unknown) => {
      link.forget(token)
      throw cannotStart(module, python, error)
    })
    const events: WorkerEvents = {
      ...this.#options.events,
      imported: () => this.#becomeReady(),
      importFailed: (error) => this.#fail(error, true),
    }
    worker = new Worker(child, module, events, log, this.#options.mostSlots)
    this.#worker = worker
    if (this.#stopping) child.kill()
    const limit = setTimeout(() => {
      if (worker?.connected === false) child.kill()
    }, connectMs)
    child.exited
      .then((exit) => {
        clearTimeout(limit)
        link.forget(token)
        this.#onExit(worker, exit, Date.now() - started)
      })
      .catch((error: unknown) => this.#fail(toRunnerError(error), true))
  }

  #startChild(python: string, token: string): Promise<WorkerChild> {
    const { module, link, log, configFile, env } = this.#options
    return startChild({
      python,
      cwd: module.paths.data,
      log,
      env: {
        ...moduleEnvironment(env, module.paths),
        BERTH_WORKER_SOCKET: link.path,
        BERTH_WORKER_TOKEN: token,
        BERTH_WORKER_CONFIG: configFile,
      },
    })
  }

  #becomeReady(): void {
    const worker = this.#worker
    if (worker === undefined || this.#stopping) return
    this.#imported = true
    this.#failure = undefined
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) one.resolve(worker)
  }

  /** `final`: another start would end the same way. */
  #fail(error: RunnerError, final: boolean): void {
    this.#failure = error
    this.#failureIsFinal = final
    this.#imported = false
    this.#options.log.write('error', 'runner', error.message)
    this.#rejectWaiting(error)
    this.#worker?.child.kill()
  }

  #rejectWaiting(error: RunnerError): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const one of waiting) one.reject(error)
  }

  #onExit(worker: Worker, exit: WorkerExit, livedMs: number): void {
    const replaced = this.#replaced
    const error = replaced ?? exitError(this.#options.module.id, exit)
    const failed = this.#failure
    this.#replaced = undefined
    this.#worker = undefined
    this.#imported = false
    this.#loaded = new Set()
    worker.close(failed ?? error)
    this.#options.events.workerGone()
    if (this.#stopping || failed !== undefined) return
    this.#options.log.write('error', 'runner', error.message)
    if (replaced !== undefined) {
      this.start()
      return
    }
    this.#quickDeaths = livedMs < quickDeathMs ? this.#quickDeaths + 1 : 1
    const wait = backOffMs[this.#quickDeaths - 1]
    if (wait === undefined) {
      const { code, message, details } = error
      this.#fail(new RunnerError(code, `${message} It has ended ${this.#quickDeaths} times in a row.`, details), false)
      return
    }
    this.#retry = setTimeout(() => this.start(), wait)
  }
}
