import { spawn } from 'node:child_process'
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Command } from 'commander'
import { type ApiClient, createClient } from '../client.ts'
import type { Context, GlobalOptions } from '../context.ts'
import { CliError } from '../failures.ts'
import { examples } from '../help.ts'
import { ended, runInForeground } from '../orchestrator-process.ts'
import { isHealthy, readiness } from '../probe.ts'

/** How long `up -d` waits: a first start may build the image of the module runner. */
const readyMs = 5 * 60_000

/** `up [-d]`. */
export function upCommand(program: Command, context: Context): void {
  program
    .command('up')
    .description('start Berth: in the foreground, or with -d in the background')
    .option('-d, --detach', 'start in the background; output goes to berth.log in the data folder')
    .addHelpText(
      'after',
      examples('berth up', 'berth up -d', 'BERTH_LISTEN=127.0.0.1:9000 berth up', 'BERTH_ENGINE=process berth up'),
    )
    .action(async (_options: unknown, command: Command) => {
      const { detach, json } = command.optsWithGlobals<GlobalOptions & { detach?: true }>()
      const { out, target } = context
      const running = await findRunning(context)
      if (running !== undefined) {
        if (json) await out.print(`${JSON.stringify({ url: running, started: false })}\n`)
        else out.note(`Berth is up already at ${running}`)
        return
      }
      if (!detach) return context.setExitCode(await runInForeground(context))
      const url = target.localUrl
      const pid = await startDetached(context, createClient(url, target.key))
      if (json) await out.print(`${JSON.stringify({ url, started: true, pid })}\n`)
      else await out.print(`Berth is up at ${url} (process ${pid}, log ${logFile(target.data)})\n`)
    })
}

/** The URL of an orchestrator that answers: where BERTH_URL says, or where one started here would listen. */
async function findRunning({ api, target, signal }: Context): Promise<string | undefined> {
  if (await isHealthy(api, signal)) return target.url
  if (target.url === target.localUrl) return undefined
  return (await isHealthy(createClient(target.localUrl, target.key), signal)) ? target.localUrl : undefined
}

const logFile = (data: string): string => path.join(data, 'berth.log')

/** Starts the orchestrator in a session of its own and waits until it is ready; resolves with its process id. */
async function startDetached({ target, mainFile, signal, out }: Context, api: ApiClient): Promise<number | undefined> {
  mkdirSync(target.data, { recursive: true })
  const log = openSync(logFile(target.data), 'w', 0o600)
  const child = spawn(process.execPath, [mainFile], { detached: true, stdio: ['ignore', log, log] })
  closeSync(log)
  const exit: { code?: number } = {}
  const gone = ended(child).then((code) => {
    exit.code = code
  })
  child.unref()
  const limit = AbortSignal.timeout(readyMs)
  const until = AbortSignal.any([signal, limit])
  let last = ''
  while (!until.aborted) {
    if (exit.code !== undefined) throw endedEarly(exit.code, target.data)
    const state = await readiness(api, until)
    if (state.ready) return child.pid
    last = state.reason
    out.status(`berth: starting: ${last}`)
    await Promise.race([delay(200, undefined, { signal: until }).catch(() => undefined), gone])
  }
  signal.throwIfAborted()
  throw new CliError(
    `Berth was started but is not ready after ${readyMs / 60_000} minutes: ${last}`,
    `It goes on starting; ${logFile(target.data)} says more, and \`berth down\` ends it.`,
  )
}

function endedEarly(code: number, data: string): CliError {
  const lines = readFileSync(logFile(data), 'utf8').trimEnd().split('\n').slice(-20)
  return new CliError(
    `Berth ended with exit code ${code} while it started; its last lines:\n${lines.map((line) => `  | ${line}`).join('\n')}`,
  )
}
