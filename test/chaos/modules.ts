import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { plainModule } from '../support/engines.ts'
import type { Question } from './client.ts'
import type { Random } from './random.ts'

/** What runs during the suite, and what is asked of it. */
const folder = join(import.meta.dirname, '..')
const noop = { 'service.py': readFileSync(join(folder, '../bench/modules/noop/service.py'), 'utf8') }
const caller = { 'service.py': readFileSync(join(folder, 'testdata/modules-e2e/caller/service.py'), 'utf8') }

/** Module id -> file -> content. `calls` passes on to `steps`, through the gateway. */
export const modules: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  quick: noop,
  steps: plainModule,
  narrow: plainModule,
  double: plainModule,
  calls: caller,
}

/** The module that has several replicas. */
export const scaled = 'steps'

/** A module that is added by its path and removed again. */
export const added = { id: 'added', files: plainModule } as const

/** Limits are short, so that a request has an end that can be waited for. */
const settings = {
  timeouts: { start: '30s', load: '20s', first_chunk: '8s', between_chunks: '4s', call: '10s', drain: '10s' },
}

export function configuration(extra: Record<string, unknown> = {}): string {
  const ids = [...Object.keys(modules), added.id]
  return JSON.stringify({
    ...extra,
    queue: { limit: 8, timeout: '20s' },
    models: {
      quick: { module: 'quick', max_simul_users: 8 },
      steps: { module: 'steps', max_simul_users: 8, load_seconds: 0.2 },
      narrow: { module: 'narrow', max_simul_users: 1 },
      'double-a': { module: 'double', max_simul_users: 4 },
      'double-b': { module: 'double', max_simul_users: 4, load_seconds: 0.3 },
      calls: { module: 'calls', max_simul_users: 4 },
      added: { module: 'added', max_simul_users: 4 },
    },
    module_settings: Object.fromEntries(
      ids.map((id) => [
        id,
        {
          ...settings,
          ...(id === 'calls' ? { calls: [scaled] } : {}),
          ...(id === scaled ? { scale: { min: 2, max: 2 } } : {}),
        },
      ]),
    ),
  })
}

/** Model -> module. */
export const models: Readonly<Record<string, string>> = {
  quick: 'quick',
  steps: 'steps',
  narrow: 'narrow',
  'double-a': 'double',
  'double-b': 'double',
  calls: 'calls',
  added: 'added',
}

/** The longest that a client waits: queue, start, load and first chunk, each at its limit, and some to spare. */
export const requestLimitMs = 90_000

/** A question that any state of the model answers quickly. */
export function probe(model: string): Question {
  return { ...asked(model, 2, 0), stream: true }
}

/** One of the mix: short and long, streamed and whole, some whose client leaves. */
export function question(model: string, random: Random): Question {
  const long = model !== 'narrow' && random.chance(0.15)
  const base = asked(model, long ? random.int(20, 60) : random.int(1, 6), long ? 0.03 : 0)
  const stream = random.chance(0.7)
  return random.chance(0.1) ? { ...base, stream, leaveAfterMs: random.int(1, 400) } : { ...base, stream }
}

function asked(model: string, n: number, pause: number): Omit<Question, 'stream'> {
  const numbers = Array.from({ length: n }, (_, index) => String(index)).join('')
  if (model === 'quick') return { model, parameters: { n }, expected: 'ok'.repeat(n) }
  if (model !== 'calls') return { model, parameters: { n, pause }, expected: numbers }
  const parameters = { do: 'passes_on', model: 'steps', prompt: 'go on', parameters: { n, pause } }
  return { model, parameters, expected: numbers }
}
