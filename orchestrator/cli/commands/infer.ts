import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { buffer, text as readText } from 'node:stream/consumers'
import type { Command } from 'commander'
import { isJsonObject, type JsonObject } from '../../domain/json.ts'
import { createAnswerPrinter } from '../answer.ts'
import { frameError } from '../client.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { CliError, UsageError } from '../failures.ts'
import { examples } from '../help.ts'
import { detectMedia } from '../media.ts'
import { withProgress } from '../waiting.ts'
import { byModel } from './models.ts'

interface InferOptions extends GlobalOptions {
  readonly file?: readonly string[]
  readonly param?: readonly string[]
  readonly config?: readonly string[]
  readonly output?: string
}

/** `infer MODEL [TEXT | --file F]`. */
export function inferCommand(program: Command, context: Context): void {
  const collect = (value: string, before: readonly string[] = []): readonly string[] => [...before, value]
  program
    .command('infer')
    .description('ask a model; text is printed as it comes')
    .argument('<model>')
    .argument('[text]', 'what to ask; - reads it from standard input')
    .option(
      '-f, --file <file>',
      'send a file: an image, a sound or any other; may be repeated; - is standard input',
      collect,
    )
    .option('-p, --param <name=value>', 'a parameter; a value that is JSON is sent as such; may be repeated', collect)
    .option('-c, --config <name=value>', "a key of the user's configuration; may be repeated", collect)
    .option('-o, --output <folder>', 'save the files of the answer here')
    .addHelpText(
      'after',
      examples(
        'berth infer minilm "a cat on a mat"',
        'berth infer ocr --file notice.png',
        'git log -5 | berth infer llama - --param temperature=0.2 --param \'stop=["\\n\\n"]\'',
        'berth infer painter "a harbour at dawn" --output pictures',
        'berth infer minilm "a cat" --json | jq \'.response.extra.embedding\'',
      ),
    )
    .action(async (model: string, text: string | undefined, _options: unknown, command: Command) => {
      const options = command.optsWithGlobals<InferOptions>()
      const body = await buildBody(context, text, options)
      if (options.json) await inferWhole(context, model, body)
      else await inferStreamed(context, model, body, options.output && path.resolve(context.cwd, options.output))
    })
}

async function inferWhole(context: Context, model: string, body: JsonObject): Promise<void> {
  const answer = await withProgress(context, byModel(model), () =>
    context.api.json('POST', inferPath(model), { body: { ...body, stream: false }, signal: context.signal }),
  )
  await context.out.print(`${JSON.stringify(answer)}\n`)
}

async function inferStreamed(context: Context, model: string, body: JsonObject, folder?: string): Promise<void> {
  const { api, out, signal } = context
  const printer = createAnswerPrinter(out, folder)
  await withProgress(context, byModel(model), async (stopProgress) => {
    try {
      for await (const frame of await api.lines('POST', inferPath(model), { body, signal })) {
        if (!isJsonObject(frame)) continue
        if (isJsonObject(frame.queued)) {
          out.status(`${model}: waiting in the queue: place ${frame.queued.position}`)
          continue
        }
        stopProgress()
        if (frame.chunk !== undefined) await printer.chunk(frame.chunk)
        if (isJsonObject(frame.error)) throw frameError(frame.error)
        if (frame.done === true) return
        signal.throwIfAborted()
      }
    } finally {
      await printer.end()
    }
    throw unfinished(model)
  })
}

function inferPath(model: string): string {
  return `/api/models/${encodeURIComponent(model)}/infer`
}

/** The stream closed in order, but without its last frame. */
function unfinished(model: string): CliError {
  return new CliError(
    `the connection broke before ${model} had finished its answer`,
    '`berth ps` shows whether Berth and the module are up.',
  )
}

async function buildBody(
  context: Context,
  text: string | undefined,
  { file: given = [], param = [], config = [] }: InferOptions,
): Promise<JsonObject> {
  if (text === '-' && given.includes('-')) throw new UsageError('standard input can be the text or a file, not both')
  const parameters = assignments(param, '--param')
  const files = await Promise.all(given.map((file) => mediaItem(context, file)))
  const asked = text === '-' ? (await readText(context.stdin)).replace(/\r?\n$/, '') : text
  const content: readonly JsonObject[] = [...(asked === undefined ? [] : [{ type: 'text', text: asked }]), ...files]
  if (content.length === 0 && param.length === 0) {
    throw new UsageError(
      'what should the model be asked?',
      'Give a text, - for standard input, --file FILE or --param NAME=VALUE.',
    )
  }
  return {
    config: assignments(config, '--config'),
    parameters,
    conversation: content.length === 0 ? [] : [{ role: 'user', content }],
  }
}

/** An item of the conversation, by what the file's first bytes say it is. */
async function mediaItem({ stdin, cwd }: Context, file: string): Promise<JsonObject> {
  const data = file === '-' ? await buffer(stdin) : await readGiven(path.resolve(cwd, file), file)
  const { kind } = detectMedia(data)
  const encoded = data.toString('base64')
  return kind === 'file'
    ? { type: kind, file: encoded, name: file === '-' ? 'stdin' : path.basename(file) }
    : { type: kind, [kind]: encoded }
}

async function readGiven(file: string, given: string): Promise<Buffer> {
  try {
    return await readFile(file)
  } catch (error) {
    throw new CliError(
      `${given} can't be read: ${error instanceof Error ? error.message : String(error)}`,
      undefined,
      error,
    )
  }
}

/** `temperature=0.2` is a number, `stop=["a"]` a list, `name=cat` a text. */
function assignments(pairs: readonly string[], option: string): JsonObject {
  return Object.fromEntries(
    pairs.map((pair) => {
      const split = pair.indexOf('=')
      if (split < 1) throw new UsageError(`${option} ${pair}: write it as NAME=VALUE`)
      return [pair.slice(0, split), jsonOrText(pair.slice(split + 1))]
    }),
  )
}

function jsonOrText(text: string): JsonObject[string] {
  try {
    return JSON.parse(text) as JsonObject[string]
  } catch {
    return text
  }
}
