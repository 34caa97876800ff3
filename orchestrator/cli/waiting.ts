import { setTimeout as delay } from 'node:timers/promises'
import type { ModuleView } from '../domain/views.ts'
import type { Context } from './context.ts'
import { megabytes } from './output.ts'

const firstLookMs = 300
const everyMs = 400

/**
 * While `work` is under way, shows what its module is doing: image, environment, start, load. `pick` finds the module
 * in the list. Work that is done within a moment shows nothing.
 */
export async function withProgress<T>(
  context: Context,
  pick: (modules: readonly ModuleView[]) => ModuleView | undefined,
  work: (stop: () => void) => Promise<T>,
): Promise<T> {
  const ended = new AbortController()
  const stop = (): void => {
    if (ended.signal.aborted) return
    ended.abort()
    context.out.clearStatus()
  }
  const watching = watch(context, pick, AbortSignal.any([ended.signal, context.signal]))
  try {
    return await work(stop)
  } finally {
    stop()
    await watching
  }
}

/** Progress is a courtesy: a look that fails is left out, and never fails the work. */
async function watch(
  { api, out }: Context,
  pick: (modules: readonly ModuleView[]) => ModuleView | undefined,
  signal: AbortSignal,
): Promise<void> {
  try {
    await delay(firstLookMs, undefined, { signal })
    for (;;) {
      const module = await look(signal)
      signal.throwIfAborted()
      const text = module && describeProgress(module)
      if (text !== undefined) out.status(text)
      await delay(everyMs, undefined, { signal })
    }
  } catch {
    return
  }

  async function look(until: AbortSignal): Promise<ModuleView | undefined> {
    try {
      const { modules } = await api.json<{ modules: readonly ModuleView[] }>('GET', '/api/modules', { signal: until })
      return pick(modules)
    } catch {
      return undefined
    }
  }
}

const phases: Readonly<Record<string, string>> = {
  image: 'getting the image',
  environment: 'installing its requirements',
  files: 'copying its files',
  start: 'starting',
  load: 'loading',
}

const states: Readonly<Record<string, string>> = {
  preparing: 'preparing',
  starting: 'starting',
  loading: 'loading',
  offloading: 'offloading',
  stopping: 'stopping',
}

/** `embeddings: installing its requirements [####----] 1 of 2: Downloaded numpy`; undefined when at rest. */
export function describeProgress({ id, state, progress }: ModuleView): string | undefined {
  if (progress === undefined) return states[state] === undefined ? undefined : `${id}: ${states[state]}`
  const { phase, message, current, total } = progress
  return `${id}: ${phases[phase] ?? phase}${bar(current, total)}${message === '' ? '' : `: ${message}`}`
}

/** Before the message, so that a narrow terminal cuts the message and not the bar. */
function bar(current: number | undefined, total: number | undefined): string {
  if (current === undefined || total === undefined || total <= 0) return ''
  // Bytes or steps: nobody installs ten thousand steps.
  const amount = (count: number): string => (total >= 10_000 ? megabytes(count) : String(count))
  const filled = Math.round(Math.min(1, Math.max(0, current / total)) * 20)
  return ` [${'#'.repeat(filled)}${'-'.repeat(20 - filled)}] ${amount(current)} of ${amount(total)}`
}
