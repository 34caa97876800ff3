import type { Command } from 'commander'
import type { ModelView, ModuleView } from '../../domain/views.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { examples } from '../help.ts'
import { ago, table } from '../output.ts'
import { withProgress } from '../waiting.ts'

/** `models`, `load`, `offload`. */
export function modelCommands(program: Command, context: Context): void {
  program
    .command('models')
    .description('list the models that can be asked')
    .addHelpText('after', examples('berth models', "berth models --json | jq -r '.models[].name'"))
    .action(async (_options: unknown, command: Command) => {
      const answer = await context.api.json<{ models: readonly ModelView[] }>('GET', '/api/models', {
        signal: context.signal,
      })
      if (command.optsWithGlobals<GlobalOptions>().json) return context.out.print(`${JSON.stringify(answer)}\n`)
      const { out } = context
      await out.print(modelTable(answer.models, Date.now(), out.stdoutIsTerminal ? out.columns : undefined))
    })

  const actions = [
    ['load', 'load a model, starting its module when needed', 'loaded'],
    ['offload', 'take a model out of memory; the next request loads it again', 'offloaded'],
  ] as const
  for (const [name, description, done] of actions) {
    program
      .command(name)
      .description(description)
      .argument('<model>')
      .option('--no-wait', 'do not wait until it is done')
      .addHelpText('after', examples(`berth ${name} minilm`))
      .action(async (model: string, _options: unknown, command: Command) => {
        const options = command.optsWithGlobals<GlobalOptions & { wait: boolean }>()
        const query = options.wait ? '?wait=true' : ''
        const view = await withProgress(context, byModel(model), () =>
          context.api.json<ModuleView>('POST', `/api/models/${encodeURIComponent(model)}/${name}${query}`, {
            signal: context.signal,
          }),
        )
        if (options.json) await context.out.print(`${JSON.stringify(view)}\n`)
        else context.out.note(`${model}: ${options.wait ? done : 'accepted; `berth models` shows how it goes'}`)
      })
  }
}

/** The module that serves a model. */
export const byModel = (model: string) => (modules: readonly ModuleView[]) =>
  modules.find((module) => module.models.includes(model))

export function modelTable(models: readonly ModelView[], now: number, width?: number): string {
  const head = ['NAME', 'MODULE', 'STATE', 'REPLICAS', 'QUEUED', 'INFLIGHT', 'LAST USED', 'ERROR']
  const rows = models.map((model) => [
    model.name,
    model.module,
    model.state,
    model.replicas.join(',') || '-',
    String(model.queued),
    String(model.inflight),
    ago(model.lastUsed, now),
    model.error === undefined ? '' : `${model.error.code}: ${model.error.message}`,
  ])
  return table(head, rows, width)
}
