import { existsSync } from 'node:fs'
import path from 'node:path'
import type { Command } from 'commander'
import type { ModuleView } from '../../domain/views.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { examples } from '../help.ts'
import { megabytes, table } from '../output.ts'
import { describeProgress, withProgress } from '../waiting.ts'

interface ActionOptions extends GlobalOptions {
  /** `--no-wait` makes it false. */
  readonly wait: boolean
}

/** `ps`, `add`, `remove`, `enable`, `disable`, `restart`. */
export function moduleCommands(program: Command, context: Context): void {
  program
    .command('ps')
    .description('list the modules and what they do')
    .addHelpText('after', examples('berth ps', "berth ps --json | jq '.modules[].id'"))
    .action(async (_options: unknown, command: Command) => {
      const answer = await context.api.json<{ modules: readonly ModuleView[] }>('GET', '/api/modules', {
        signal: context.signal,
      })
      if (command.optsWithGlobals<GlobalOptions>().json) return context.out.print(`${JSON.stringify(answer)}\n`)
      if (answer.modules.length === 0) context.out.note('no modules yet: drop a folder with a service.py into modules/')
      await context.out.print(
        moduleTable(answer.modules, context.out.stdoutIsTerminal ? context.out.columns : undefined),
      )
    })

  program
    .command('add')
    .description('add an image that speaks the runner protocol, or a folder with a module')
    .argument('<source>', 'image reference, or path of a folder')
    .option('--no-wait', 'do not wait until it is up')
    .addHelpText('after', examples('berth add registry.example/echo:1.2', 'berth add ~/my-module'))
    .action(async (given: string, _options: unknown, command: Command) => {
      const source = resolveSource(given, context.cwd)
      const options = command.optsWithGlobals<ActionOptions>()
      const module = await withProgress(
        context,
        (modules) => modules.find((entry) => entry.source === source || entry.id === path.basename(source)),
        () =>
          context.api.json<ModuleView>('POST', `/api/modules${wait(options)}`, {
            body: { source },
            signal: context.signal,
          }),
      )
      await report(context, options, module, 'added')
    })

  program
    .command('remove')
    .description('stop a module and remove it (never a folder of yours, only what Berth put there)')
    .argument('<module>')
    .option('--no-wait', 'do not wait until it is gone')
    .addHelpText('after', examples('berth remove echo'))
    .action(async (id: string, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<ActionOptions>()
      await withProgress(context, byId(id), () =>
        context.api.json('DELETE', `/api/modules/${encodeURIComponent(id)}${wait(options)}`, {
          signal: context.signal,
        }),
      )
      if (options.json) await context.out.print(`${JSON.stringify({ removed: id })}\n`)
      else context.out.note(`${id}: ${options.wait ? 'removed' : 'is being removed'}`)
    })

  const actions = [
    ['enable', 'start a module', 'enabled', 'berth enable embeddings'],
    ['disable', 'let a module finish what it is doing, then stop it', 'disabled', 'berth disable embeddings'],
    ['restart', 'stop a module and start it again', 'restarted', 'berth restart embeddings'],
  ] as const
  for (const [name, description, done, example] of actions) {
    program
      .command(name)
      .description(description)
      .argument('<module>')
      .option('--no-wait', 'do not wait until it is done')
      .addHelpText('after', examples(example, `${example} --no-wait`))
      .action(async (id: string, _options: unknown, command: Command) => {
        const options = command.optsWithGlobals<ActionOptions>()
        const module = await withProgress(context, byId(id), () =>
          context.api.json<ModuleView>('POST', `/api/modules/${encodeURIComponent(id)}/${name}${wait(options)}`, {
            signal: context.signal,
          }),
        )
        await report(context, options, module, done)
      })
  }
}

const byId = (id: string) => (modules: readonly ModuleView[]) => modules.find((module) => module.id === id)

function wait(options: ActionOptions): string {
  return options.wait ? '?wait=true' : ''
}

/** A folder that is there, or something that can only be a path, reaches the orchestrator as an absolute path. */
function resolveSource(source: string, cwd: string): string {
  const file = path.resolve(cwd, source)
  return /^(\.{0,2}\/|\.{1,2}$)/.test(source) || existsSync(file) ? file : source
}

async function report({ out }: Context, options: ActionOptions, module: ModuleView, done: string): Promise<void> {
  if (options.json) return out.print(`${JSON.stringify(module)}\n`)
  out.note(
    options.wait ? `${module.id}: ${done} (${module.state})` : `${module.id}: accepted; \`berth ps\` shows how it goes`,
  )
}

/** One line a module; the last column says its source, or what is wrong or under way. */
export function moduleTable(modules: readonly ModuleView[], width?: number): string {
  const head = ['ID', 'FORMAT', 'STATE', 'MODELS', 'REPLICAS', 'ENVIRONMENT', 'SECURITY', 'SOURCE/ERROR']
  return table(head, modules.map(moduleRow), width)
}

function moduleRow(module: ModuleView): readonly string[] {
  const live = module.replicas.filter(({ state }) => state !== 'absent' && state !== 'failed').length
  const { environment, error, security } = module
  return [
    module.id,
    module.format,
    stateOf(module),
    module.models.join(',') || '-',
    String(live),
    environment === undefined
      ? '-'
      : `${environment.state}${environment.bytes === undefined ? '' : ` ${megabytes(environment.bytes)}`}`,
    security === undefined ? '-' : String(security.score),
    error === undefined
      ? (module.progress && describeProgress(module)?.slice(module.id.length + 2)) || module.source
      : `${error.code}: ${error.message}`,
  ]
}

function stateOf({ desired, state }: ModuleView): string {
  if (desired === 'enabled') return state
  return state === 'absent' ? 'disabled' : `${state} (disabled)`
}
