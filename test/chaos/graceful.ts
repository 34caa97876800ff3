import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { plainModule } from '../support/engines.ts'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'
import { ask } from './client.ts'
import { classOf, type Outcome } from './outcome.ts'
import { Random } from './random.ts'
import type { EngineName } from './world.ts'

/**
 * What a person does on purpose, while requests keep coming: none may fail. A client that is told to come later (503 with
 * Retry-After, while Berth ends) does, and one that finds nobody listening between end and start, or whose connection the
 * system resets as the port closes, tries again: each is counted apart, and the request is good when it is answered in the end.
 */
export interface GracefulResult {
  readonly path: string
  readonly times: number
  /** Asked while it was being done, and between two times. */
  readonly requests: number
  readonly toldToComeLater: number
  readonly foundNobody: number
  /** Connected in the instant in which the port closed: the system resets such a connection, Berth has never seen it. */
  readonly resetAtTheDoor: number
  /** Of a module that was switched off: what its clients had to be told. */
  readonly refusedAsAsked: number
  readonly failed: readonly string[]
}

interface Stage {
  readonly engine: EngineName
  readonly berth: TestBerth
  readonly configure: (changes: Changes) => Promise<void>
  /** From now on, until the function is called, the port closes and opens again. */
  readonly ending: () => () => void
  /** From now on, until the function is called, `model` may answer that it is disabled. */
  readonly allowDisabled: (model: string) => () => void
}

interface Changes {
  readonly model?: object
  readonly settings?: object
}

export interface GracefulPath {
  readonly name: string
  readonly run: (stage: Stage, time: number) => Promise<void>
}

const subject = 'subject'
const other = 'other'
const clients = 8
const limitMs = 60_000
const leastTimes = 4
/** A request that was sent so long before the module was switched off had come in by then. */
const onItsWayMs = 250

export const gracefulPaths: readonly GracefulPath[] = [
  {
    name: 'disable, enable',
    async run({ berth, allowDisabled }) {
      const over = allowDisabled(subject)
      await must(berth, 'POST', `/api/modules/${subject}/disable?wait=true`)
      await must(berth, 'POST', `/api/modules/${subject}/enable?wait=true`)
      over()
    },
  },
  {
    name: 'scale 3, scale 1',
    async run({ berth }) {
      await must(berth, 'PUT', `/api/modules/${subject}/scale?wait=true`, { replicas: 3 })
      await must(berth, 'PUT', `/api/modules/${subject}/scale?wait=true`, { replicas: 1 })
    },
  },
  {
    name: 'SIGTERM with shutdown: keep, start',
    async run({ berth, ending }) {
      const over = ending()
      const code = await berth.stop()
      if (code !== 0) throw new Error(`it ended with ${code}`)
      await berth.restart()
      over()
    },
  },
  {
    name: 'changed settings of a module',
    run: (stage, time) =>
      replaced(stage, () => stage.configure({ settings: { env: { CHANGED: String(time) }, timeouts } })),
  },
  {
    name: 'changed file of a module',
    run: (stage, time) =>
      replaced(stage, () =>
        stage.berth.writeModule(subject, { 'service.py': `${plainModule['service.py']}\n# ${time}\n` }),
      ),
  },
  {
    name: 'changed configuration of a model',
    async run({ berth, configure }, time) {
      await configure({ model: { load_seconds: 0.1, time } })
      await berth.until(subject, ({ state }) => state !== 'ready', 30_000)
      await berth.until(subject, ({ state }) => state === 'ready', 30_000)
    },
  },
]

/** Longer than anything that is asked here takes. */
const timeouts = { drain: '30s' }

/** Does it several times, until so many requests have come in from the first time on. */
export async function runGraceful(
  engine: EngineName,
  path: GracefulPath,
  requests: number,
  signal: AbortSignal,
): Promise<GracefulResult> {
  const yaml = (changes: Changes): string =>
    JSON.stringify({
      shutdown: 'keep',
      models: {
        [subject]: { module: subject, max_simul_users: 4, ...changes.model },
        [other]: { module: other, max_simul_users: 4 },
      },
      module_settings: { [subject]: changes.settings ?? { timeouts } },
    })
  const berth = await startBerth({
    engine,
    modules: { [subject]: plainModule, [other]: plainModule },
    config: yaml({}),
  })
  try {
    const tally = new Tally()
    const stage: Stage = {
      engine,
      berth,
      configure: (changes) => writeFile(join(berth.folder, 'berth.yaml'), yaml(changes)),
      ending: () => tally.ending(),
      allowDisabled: (model) => tally.allowDisabled(model),
    }
    for (const model of [subject, other]) await berth.infer(model)
    const stop = new AbortController()
    const load = Array.from({ length: clients }, (_, index) => client(berth.url, new Random(index), tally, stop.signal))
    let times = 0
    tally.begin()
    try {
      for (; tally.requests < requests && !signal.aborted; times += 1) {
        await path.run(stage, times)
        const enough = ((times + 1) * requests) / leastTimes
        while (tally.requests < Math.min(enough, requests)) await delay(20)
      }
    } finally {
      stop.abort()
      await Promise.all(load)
    }
    return { path: path.name, times, ...tally.result() }
  } catch (error) {
    throw new Error(
      `${path.name}: ${error instanceof Error ? error.message : String(error)}\n${berth.log().slice(-3_000)}`,
    )
  } finally {
    await berth.close()
  }
}

async function client(url: string, random: Random, tally: Tally, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    const n = random.chance(0.1) ? random.int(20, 60) : random.int(1, 5)
    const expected = Array.from({ length: n }, (_, index) => String(index)).join('')
    const model = random.chance(0.7) ? subject : other
    const question = { model, parameters: { n, pause: 0.01 }, stream: random.chance(0.7), expected }
    const beganMs = performance.now()
    for (const deadline = Date.now() + limitMs; ; ) {
      const outcome = await ask(url, question, limitMs)
      const waitMs = tally.take(outcome, model, beganMs)
      if (waitMs === undefined) break
      if (Date.now() > deadline) {
        tally.fail('it was told to come later, again and again')
        break
      }
      await delay(waitMs)
    }
    await delay(random.int(0, 20))
  }
}

class Tally {
  requests = 0
  #counting = false
  #later = 0
  #nobody = 0
  #reset = 0
  #ending = false
  #refused = 0
  readonly #failed: string[] = []
  readonly #disabled: { readonly model: string; readonly fromMs: number; toMs: number }[] = []

  begin(): void {
    this.#counting = true
  }

  ending(): () => void {
    this.#ending = true
    return () => {
      this.#ending = false
    }
  }

  allowDisabled(model: string): () => void {
    const span = { model, fromMs: performance.now() - onItsWayMs, toMs: Number.POSITIVE_INFINITY }
    this.#disabled.push(span)
    return () => {
      span.toMs = performance.now()
    }
  }

  /** How long to wait before the request is sent again; undefined when it has come to its end. */
  take(outcome: Outcome, model: string, beganMs: number): number | undefined {
    if (outcome.kind === 'refused') {
      this.#nobody += 1
      return 50
    }
    if (outcome.kind === 'cut' && !outcome.begun && this.#ending) {
      this.#reset += 1
      return 50
    }
    if (outcome.kind === 'error' && outcome.code === 'SHUTTING_DOWN' && !outcome.inStream) {
      this.#later += 1
      return outcome.retryAfterMs ?? 1_000
    }
    if (this.#counting) this.requests += 1
    if (outcome.kind === 'ok') return undefined
    const off = this.#disabled.some((span) => span.model === model && span.fromMs <= beganMs && beganMs <= span.toMs)
    if (outcome.kind === 'error' && outcome.code === 'MODULE_DISABLED' && off) this.#refused += 1
    else this.fail(`${model}: ${classOf(outcome)}${outcome.kind === 'error' ? `: ${outcome.message}` : ''}`)
    return undefined
  }

  fail(what: string): void {
    this.#failed.push(what)
  }

  result() {
    return {
      requests: this.requests,
      toldToComeLater: this.#later,
      foundNobody: this.#nobody,
      resetAtTheDoor: this.#reset,
      refusedAsAsked: this.#refused,
      failed: this.#failed,
    }
  }
}

/** Resolves when others serve, and those of before are gone. */
async function replaced({ berth }: Stage, change: () => Promise<void>): Promise<void> {
  const names = ({ replicas }: ModuleView): string[] => replicas.map(({ id, generation }) => `${id} ${generation}`)
  const before = names(await berth.module(subject))
  await change()
  await berth.until(
    subject,
    (view) =>
      view.replicas.length > 0 &&
      names(view).every((name) => !before.includes(name)) &&
      view.replicas.every(({ state }) => state === 'ready'),
    60_000,
  )
}

async function must(berth: TestBerth, method: string, path: string, body?: object): Promise<void> {
  const answer = await berth.request(method, path, body)
  const text = await answer.text()
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`)
}
