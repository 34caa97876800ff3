import type { Command } from 'commander'
import type { Scale } from '../../domain/manifest.ts'
import type { ModuleView, PlanStepView } from '../../domain/views.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { UsageError } from '../failures.ts'
import { examples } from '../help.ts'
import { table } from '../output.ts'
import { withProgress } from '../waiting.ts'

interface Scaled extends Scale {
  readonly replicas: number
  readonly module: ModuleView
}

/** What stands before and behind `=`; no scale: that of the module itself again. */
interface Wish {
  readonly module: string
  readonly scale: Scale | undefined
}

/** `scale`, `plan`. */
export function scaleCommands(program: Command, context: Context): void {
  program
    .command('scale')
    .description('say how many replicas modules may have; it holds until it is said anew')
    .argument('<module=replicas...>', 'a number, MIN..MAX, or `default` for what the module itself says')
    .option('--no-wait', 'do not wait until they are up')
    .addHelpText(
      'after',
      examples(
        'berth scale embeddings=2              exactly two',
        'berth scale embeddings=0..4 ocr=1     none to four as requests come, and exactly one',
        'berth scale embeddings=0              none: it does not run',
        'berth scale embeddings=default',
      ),
    )
    .action(async (given: readonly string[], _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<GlobalOptions & { wait: boolean }>()
      const wishes = given.map(readWish)
      const busy = new Set(wishes.map(({ module }) => module))
      await withProgress(
        context,
        (modules) => modules.find(({ id, state }) => busy.has(id) && state !== 'ready' && state !== 'idle'),
        async (stop) => {
          const outcomes = await Promise.allSettled(
            wishes.map(async (wish) => {
              const scaled = await ask(context, wish, options.wait)
              busy.delete(wish.module)
              return scaled
            }),
          )
          stop()
          for (const outcome of outcomes)
            if (outcome.status === 'fulfilled') await report(context, options, outcome.value)
          for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
        },
      )
    })

  program
    .command('plan')
    .description('show what Berth would do now and why, without doing it')
    .addHelpText('after', examples('berth plan', "berth plan --json | jq '.steps | length'"))
    .action(async (_options: unknown, command: Command) => {
      const { api, out, signal } = context
      const answer = await api.json<{ steps: readonly PlanStepView[] }>('GET', '/api/plan', { signal })
      if (command.optsWithGlobals<GlobalOptions>().json) return out.print(`${JSON.stringify(answer)}\n`)
      if (answer.steps.length === 0) return out.note('nothing to do: everything is as it should be')
      const rows = answer.steps.map(({ action, module, replica, cause }) => [action, module, replica ?? '-', cause])
      await out.print(
        table(['ACTION', 'MODULE', 'REPLICA', 'CAUSE'], rows, out.stdoutIsTerminal ? out.columns : undefined),
      )
    })
}

function ask({ api, signal }: Context, { module, scale }: Wish, wait: boolean): Promise<Scaled> {
  const path = `/api/modules/${encodeURIComponent(module)}/scale${wait ? '?wait=true' : ''}`
  return scale === undefined ? api.json('DELETE', path, { signal }) : api.json('PUT', path, { body: scale, signal })
}

/** `name=2`, `name=0..4` or `name=default`; a module's name may hold `=` itself. */
export function readWish(text: string): Wish {
  const [, module, number, most, word] = /^(.+)=(?:(\d{1,4})(?:\.\.(\d{1,4}))?|(default))$/.exec(text) ?? []
  if (module === undefined || (number === undefined && word === undefined)) {
    throw new UsageError(`${text} says no number of replicas`, 'Write MODULE=2, MODULE=0..4 or MODULE=default.')
  }
  if (number === undefined) return { module, scale: undefined }
  const scale = { min: Number(number), max: Number(most ?? number) }
  if (scale.min > scale.max) throw new UsageError(`${text}: the smaller number comes first`)
  return { module, scale }
}

async function report(
  { out }: Context,
  { json, wait }: GlobalOptions & { wait: boolean },
  scaled: Scaled,
): Promise<void> {
  if (json) return out.print(`${JSON.stringify(scaled)}\n`)
  const { min, max, replicas, module } = scaled
  const wanted = min === max ? `${min}` : `${min} to ${max}`
  out.note(
    wait
      ? `${module.id}: ${wanted} wanted, ${replicas} there (${module.state})`
      : `${module.id}: ${wanted} wanted; \`berth ps\` shows how it goes`,
  )
}
