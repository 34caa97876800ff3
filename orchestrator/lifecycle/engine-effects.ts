import { availableParallelism } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { systemClock } from '../domain/clock.ts'
import { BerthError } from '../domain/errors.ts'
import type { Engine, Workload } from '../engines/engine.ts'
import type { RunnerClient, RunnerHealth } from '../runner/client.ts'
import { createRunnerClient } from '../runner/client.ts'
import type { LoadedModels } from '../store/store.ts'
import { type Effects, exitError, type ReplicaRef } from './effects.ts'
import { toRecord } from './log-follower.ts'
import { StartSlots } from './start-slots.ts'
import { type Instance, workloadSpec, workloadToken } from './workload.ts'

/** The effects on a real engine and real runners. */

export interface EngineEffectsOptions {
  readonly engine: Engine
  readonly instance: Instance
  /** A number that no earlier start of this replica id had, also before a restart of the orchestrator. */
  readonly nextGeneration: (replica: string) => number
  readonly loaded: LoadedModels
  /** Resolves when the engine may be used; rejects with why it can't be. */
  readonly ready: () => Promise<void>
  readonly followLog: (module: string, replica: ReplicaRef, workload: Workload) => void
}

const linesTold = 20
/** How often a starting runner is asked, and how often a stop is tried again while the engine can't be reached. */
const askEveryMs = { first: 10, longest: 250 }
const stopRetryMs = 2_000
/** How often the engine is asked whether a workload whose runner is gone has ended. */
const endLooks = { count: 10, everyMs: 100 }

/** Replicas that boot at the same time. */
const startsAtOnce = Math.max(4, 2 * availableParallelism())

export function engineEffects(options: EngineEffectsOptions): Effects {
  const { engine, instance, nextGeneration } = options
  const slots = new StartSlots(startsAtOnce)
  /** Workload -> what gives its slot back: when it answers, and when it is stopped without. */
  const booting = new Map<string, () => void>()

  function booted(workload: string): void {
    booting.get(workload)?.()
    booting.delete(workload)
  }

  return {
    nextGeneration,

    remember({ id, generation }, model, hash) {
      if (hash === undefined) options.loaded.remove(id, generation, model)
      else options.loaded.put(id, generation, model, hash)
    },

    remembered: ({ id, generation }) => options.loaded.of(id, generation),

    async prepare(definition, signal, onProgress) {
      await options.ready()
      const spec = workloadSpec(instance, definition, { id: `${definition.manifest.id}-0`, generation: 0 }, [])
      const { installMs } = definition.manifest.timeouts
      const limit = limited(signal, installMs, () => installTimeout(definition.manifest.id, installMs))
      const { environment } = await limit.race(engine.prepare(spec, limit.signal, onProgress))
      return environment
    },

    async start(definition, replica, devices, signal) {
      await options.ready()
      const release = await slots.take(signal)
      try {
        const workload = await engine.start(workloadSpec(instance, definition, replica, devices), signal)
        booting.set(workload.id, release)
        return workload
      } catch (error) {
        release()
        throw error
      }
    },

    connect(definition, replica, workload) {
      options.followLog(definition.manifest.id, replica, workload)
      return createRunnerClient({
        module: definition.manifest.id,
        endpoint: workload.endpoint,
        token: definition.external ? (workload.token ?? '') : workloadToken(instance, replica),
        foreign: definition.manifest.base.kind === 'protocol',
      })
    },

    async awaitAnswer(definition, workload, client, signal) {
      const { id, timeouts } = definition.manifest
      const { startMs } = timeouts
      const limit = limited(signal, startMs, () => {
        const message = `Module ${id} did not answer within ${startMs / 1000} s of its start (timeouts.start); see: berth logs ${id}`
        return new BerthError('START_TIMEOUT', message, { module: id })
      })
      try {
        return await limit.race(firstAnswer(engine, id, workload.id, client, limit.signal))
      } finally {
        booted(workload.id)
      }
    },

    load(definition, client, models, signal) {
      const { id, timeouts } = definition.manifest
      const names = Object.keys(models).join(', ')
      const limit = limited(signal, timeouts.loadMs, () => {
        const message = `Module ${id} did not load ${names} within ${timeouts.loadMs / 1000} s (timeouts.load); its worker is replaced.`
        return new BerthError('LOAD_TIMEOUT', message, { module: id, models: Object.keys(models) })
      })
      return limit.race(client.load(models, limit.signal))
    },

    offload(definition, client, models, signal) {
      const { id, timeouts } = definition.manifest
      const limit = limited(signal, timeouts.callMs, () => {
        const message = `Module ${id} did not offload ${models.join(', ')} within ${timeouts.callMs / 1000} s (timeouts.call).`
        return new BerthError('LOAD_TIMEOUT', message, { module: id, models })
      })
      return limit.race(client.offload(models, limit.signal))
    },

    async whyEnded({ manifest }, workload) {
      for (let look = 0; look < endLooks.count; look += 1) {
        if (look > 0) await delay(endLooks.everyMs, undefined, { ref: false })
        const error = await throwIfEnded(engine, manifest.id, workload.id).catch((reason: unknown) => reason)
        if (error === undefined) continue
        return error instanceof BerthError && error.code !== 'ENGINE_UNAVAILABLE' ? error : undefined
      }
      return undefined
    },

    lastLines: (workload) => lastLines(engine, workload.id),

    async stop(definition, replica, workload, graceMs) {
      if (definition.external) return options.loaded.clear(replica.id, replica.generation)
      // Until it has ended nothing else may start under its name, so an engine that is away, or can't end it, is asked again.
      for (;;) {
        try {
          const id = workload?.id ?? (await findWorkload(engine, replica.id, replica.generation))
          if (id !== undefined) {
            booted(id)
            await engine.stop(id, { graceMs })
          }
          options.loaded.clear(replica.id, replica.generation)
          return
        } catch (error) {
          if (!(await mayRun(engine, replica))) throw error
          await delay(stopRetryMs, undefined, { ref: false })
        }
      }
    },
  }
}

/** True also while the engine can't say. */
async function mayRun(engine: Engine, { id, generation }: ReplicaRef): Promise<boolean> {
  const found = await engine.list().catch(() => undefined)
  if (found === undefined) return true
  return found.some((each) => each.replica === id && each.generation === generation && each.state !== 'exited')
}

async function findWorkload(engine: Engine, replica: string, generation: number): Promise<string | undefined> {
  const found = await engine.list()
  return found.find((workload) => workload.replica === replica && workload.generation === generation)?.id
}

/** Asks until the runner has left `starting`. A workload that has ended meanwhile is not waited for. */
async function firstAnswer(
  engine: Engine,
  module: string,
  workload: string,
  client: RunnerClient,
  signal: AbortSignal,
): Promise<RunnerHealth> {
  let pauseMs = askEveryMs.first
  let lookAt = 8
  for (let round = 1; ; round += 1) {
    const health = await client
      .health(AbortSignal.any([signal, AbortSignal.timeout(5_000)]))
      .catch((error: unknown) => {
        if (signal.aborted || (error instanceof BerthError && error.code === 'RUNNER_PROTOCOL')) throw error
        return undefined
      })
    if (health?.state === 'failed') {
      throw (
        health.error ??
        new BerthError('LOAD_FAILED', `Module ${module} failed to start; see: berth logs ${module}`, { module })
      )
    }
    if (health && health.state !== 'starting') return health
    // Looking at the engine costs more than asking the runner: the eighth time, then ever less often.
    if (!health && round >= lookAt) {
      lookAt = round * 2
      await throwIfEnded(engine, module, workload)
    }
    await delay(pauseMs, undefined, { signal })
    pauseMs = Math.min(askEveryMs.longest, pauseMs * 1.3)
  }
}

async function throwIfEnded(engine: Engine, module: string, id: string): Promise<void> {
  const own = (await engine.list()).find((workload) => workload.id === id)
  const found = own ?? (await engine.discover?.())?.find((workload) => workload.id === id)
  if (found && found.state !== 'exited') return
  throw exitError(module, own?.exit ?? {}, found ? await lastLines(engine, id) : [])
}

async function lastLines(engine: Engine, id: string): Promise<string[]> {
  const lines: string[] = []
  try {
    for await (const line of engine.logs(id, { tail: linesTold, signal: AbortSignal.timeout(5_000) }))
      lines.push(toRecord(line, '', systemClock).message.slice(0, 2_000))
  } catch {
    // The log is an extra: an error without it is better than another error.
  }
  return lines
}

function installTimeout(module: string, installMs: number): BerthError {
  const message = `The environment of module ${module} was not installed within ${installMs / 1000} s (timeouts.install).`
  return new BerthError('REQUIREMENTS_FAILED', message, { module })
}

/** A longer timer would fire at once. */
const longestTimerMs = 2_147_483_647

/** A signal that also aborts after `ms`; `race` turns that abort into its error. Infinity: no limit. */
function limited(signal: AbortSignal, ms: number, error: () => BerthError) {
  const timer = Number.isFinite(ms) ? AbortSignal.timeout(Math.min(Math.max(1, ms), longestTimerMs)) : undefined
  const both = timer ? AbortSignal.any([signal, timer]) : signal
  return {
    signal: both,
    async race<T>(work: Promise<T>): Promise<T> {
      try {
        return await work
      } catch (reason) {
        if (timer?.aborted && !signal.aborted) throw error()
        throw reason
      }
    },
  }
}
