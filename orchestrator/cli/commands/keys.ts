import { type Command, InvalidArgumentError, Option } from 'commander'
import { type KeyView, keyScopes } from '../../domain/api-key.ts'
import { priorities } from '../../domain/priority.ts'
import { parseDuration } from '../../domain/quantity.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { UsageError } from '../failures.ts'
import { examples } from '../help.ts'
import { ago, table } from '../output.ts'

interface Keys {
  readonly required: boolean
  readonly keys: readonly KeyView[]
}

interface MadeKey {
  readonly secret: string
  readonly key: KeyView
}

interface AddOptions extends GlobalOptions {
  readonly scope?: readonly string[]
  readonly model?: readonly string[]
  readonly expires?: string
  readonly priority?: string
}

const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value]

function addScope(value: string, before: readonly string[] = []): readonly string[] {
  if (keyScopes.some((scope) => scope === value)) return [...before, value]
  throw new InvalidArgumentError(`It is one of ${keyScopes.join(', ')}.`)
}

const off = 'keys are not asked for here (`auth: none`): anybody on this machine may do everything'

/** `keys`, `keys list`, `keys add`, `keys remove`. */
export function keyCommands(program: Command, context: Context): void {
  const { api, out, signal } = context

  const list = async (_options: unknown, command: Command): Promise<void> => {
    const answer = await api.json<Keys>('GET', '/api/keys', { signal })
    if (command.optsWithGlobals<GlobalOptions>().json) return out.print(`${JSON.stringify(answer)}\n`)
    if (!answer.required) out.note(off)
    await out.print(keyTable(answer.keys, Date.now(), out.stdoutIsTerminal ? out.columns : undefined))
  }

  const keys = program
    .command('keys')
    .description('list, make and remove API keys: who may use Berth, and for what')
    .addHelpText('after', examples('berth keys', 'berth keys add ci', 'berth keys remove ci'))
    .action(list)
  keys.command('list').description('list the keys, without their secrets').action(list)

  keys
    .command('add')
    .description('make a key; its secret is printed once, and kept nowhere')
    .argument('<name>', 'letters, digits and ._@-')
    .option(
      '-s, --scope <scope>',
      `what it may do: ${keyScopes.join(', ')}; may be repeated (default: infer)`,
      addScope,
    )
    .option('-m, --model <model>', 'a model that it may use; may be repeated (default: all)', collect)
    .option(
      '-e, --expires <when>',
      'a time such as 2030-01-31T12:00:00Z, or how long from now: 12h, 30d (default: never)',
    )
    .addOption(new Option('-p, --priority <priority>', 'where its requests wait (default: normal)').choices(priorities))
    .addHelpText(
      'after',
      examples('berth keys add ci --model minilm --expires 30d', 'berth keys add ops --scope admin'),
    )
    .action(async (name: string, _options: unknown, command: Command) => {
      const { scope, model, expires, priority, json } = command.optsWithGlobals<AddOptions>()
      const body = {
        name,
        ...(scope === undefined ? {} : { scopes: scope }),
        ...(model === undefined ? {} : { models: model }),
        ...(expires === undefined ? {} : { expiresAt: readExpiry(expires, Date.now()) }),
        ...(priority === undefined ? {} : { priority }),
      }
      const made = await api.json<MadeKey>('POST', '/api/keys', { body, signal })
      if (json) return out.print(`${JSON.stringify(made)}\n`)
      out.note(`${made.key.name}: made (${made.key.scopes.join(', ')}); this is its secret, which is shown only now:`)
      await out.print(`${made.secret}\n`)
    })

  keys
    .command('remove')
    .description('remove a key: from now on it is refused')
    .argument('<name>')
    .addHelpText('after', examples('berth keys remove ci'))
    .action(async (name: string, _options: unknown, command: Command) => {
      await api.json('DELETE', `/api/keys/${encodeURIComponent(name)}`, { signal })
      if (command.optsWithGlobals<GlobalOptions>().json) await out.print(`${JSON.stringify({ removed: name })}\n`)
      else out.note(`${name}: removed`)
    })
}

/** A time as it is; a duration, counted from now. */
function readExpiry(text: string, nowMs: number): string {
  if (/^\d{4}-/.test(text)) return text
  const ms = parseDuration(text)
  if (ms === undefined || !Number.isFinite(ms) || ms <= 0) {
    throw new UsageError(
      `--expires ${text} is neither a time nor a duration`,
      'Write 30d, 12h or 2030-01-31T12:00:00Z.',
    )
  }
  return new Date(nowMs + ms).toISOString()
}

export function keyTable(keys: readonly KeyView[], nowMs: number, width?: number): string {
  const rows = keys.map(({ name, scopes, models, priority, expiresAt, createdAt }) => [
    name,
    scopes.join(','),
    priority,
    expiresAt === undefined ? 'never' : Date.parse(expiresAt) <= nowMs ? `expired ${ago(expiresAt, nowMs)}` : expiresAt,
    ago(createdAt, nowMs),
    models?.join(',') ?? 'all',
  ])
  return table(['NAME', 'SCOPES', 'PRIORITY', 'EXPIRES', 'CREATED', 'MODELS'], rows, width)
}
