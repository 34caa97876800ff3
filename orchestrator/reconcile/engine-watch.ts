import { setTimeout as delay } from 'node:timers/promises'
import { BerthError, toBerthError } from '../domain/errors.ts'
import type { Engine } from '../engines/engine.ts'
import type { Supervisor } from './supervisor.ts'

/**
 * Connects to the engine and keeps in touch: every hint of a change, and a timer, leads to a new listing. While the
 * engine can't be reached nothing is concluded about workloads: they go on without us.
 */
export interface EngineWatch {
  /** Why the engine can't be used now; undefined when it can. */
  readonly problem: BerthError | undefined
  /** Resolves after the first attempt to connect, whatever came of it. */
  readonly firstAttempt: Promise<void>
}

export interface EngineWatchOptions {
  readonly engine: Engine
  readonly supervisor: Supervisor
  /** Runs after every (re)connection, before the first listing: what needs the engine to be known. */
  readonly onConnected: (signal: AbortSignal) => Promise<void>
  readonly log: (level: 'info' | 'warn', message: string) => void
  /** Told when the engine can be used, and when it can't any more (at the start: yet). */
  readonly onState: (state: 'reachable' | 'lost', cause: string) => void
  readonly signal: AbortSignal
}

const connectRetryMs = { first: 250, longest: 5_000 }
const listEveryMs = 5_000
const healthEveryMs = 10_000
/** Hints that come together lead to one listing. */
const gatherMs = 20

export function watchEngine(options: EngineWatchOptions): EngineWatch {
  const { engine, supervisor, log, signal } = options
  let problem: BerthError | undefined = new BerthError(
    'ENGINE_UNAVAILABLE',
    `The engine ${engine.name} has not been reached yet.`,
  )
  /** A hint has come that no listing has answered yet. */
  let hinted = false
  let wake = () => {}
  const nudge = () => {
    hinted = true
    wake()
  }
  let state: 'reachable' | 'lost' | undefined
  const tell = (next: 'reachable' | 'lost', cause: string) => {
    if (state !== next) options.onState(next, cause)
    state = next
  }
  let attempted = () => {}
  const firstAttempt = new Promise<void>((resolve) => {
    attempted = resolve
  })

  async function connect(): Promise<void> {
    for (let pauseMs = connectRetryMs.first; ; pauseMs = Math.min(connectRetryMs.longest, pauseMs * 2)) {
      try {
        await engine.connect(signal)
        await options.onConnected(signal)
        await supervisor.reconcile({ atOnce: true })
        if (problem) log('info', `connected to ${engine.capabilities.description}`)
        problem = undefined
        tell('reachable', `connected to ${engine.capabilities.description}`)
        supervisor.retry()
        return
      } catch (error) {
        if (signal.aborted) return
        const reason = toBerthError(error)
        if (reason.message !== problem?.message) log('warn', reason.message)
        problem = reason
        tell('lost', reason.message)
        attempted()
        await delay(pauseMs, undefined, { signal, ref: false })
      }
    }
  }

  async function readHints(stop: AbortSignal): Promise<void> {
    for await (const _hint of engine.watch(stop)) nudge()
  }

  /** Lists until the engine is lost. */
  async function follow(): Promise<void> {
    const stop = new AbortController()
    const both = AbortSignal.any([signal, stop.signal])
    readHints(both).catch(() => nudge())
    try {
      for (let healthAt = performance.now() + healthEveryMs; !signal.aborted; ) {
        if (!hinted) await hintOrPause()
        await delay(gatherMs, undefined, { signal, ref: false })
        hinted = false
        await supervisor.reconcile()
        if (performance.now() < healthAt) continue
        healthAt = performance.now() + healthEveryMs
        supervisor.checkHealth()
      }
    } finally {
      stop.abort()
    }
  }

  async function hintOrPause(): Promise<void> {
    const over = new AbortController()
    const hint = new Promise<void>((resolve) => {
      wake = resolve
    })
    const pause = delay(listEveryMs, undefined, { signal: AbortSignal.any([signal, over.signal]), ref: false })
    await Promise.race([hint, pause])
    pause.catch(() => {})
    over.abort()
  }

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await connect()
      attempted()
      await follow().catch((error: unknown) => {
        if (signal.aborted) return
        problem = toBerthError(error)
        log('warn', `lost the engine: ${problem.message}`)
        tell('lost', problem.message)
      })
    }
  }

  run().catch((error: unknown) => {
    if (!signal.aborted) log('warn', `the engine is no longer watched: ${toBerthError(error).message}`)
  })

  return {
    get problem() {
      return problem
    },
    firstAttempt,
  }
}
