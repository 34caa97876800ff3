import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { type ClientRequest, type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished, vi } from 'vitest'
import {
  type HealthAnswer,
  type LogOutput,
  type RunnerConfiguration,
  runnerNodeFlags,
} from '../../../module-runner/protocol.ts'

/** A real runner with a real Python worker, on a Unix socket, with folders of its own. */
export interface TestRunner {
  readonly process: ChildProcess
  readonly data: string
  /** What it wrote to standard output. */
  readonly logs: LogOutput[]
  health(): Promise<HealthAnswer>
  /** Waits until the health is as wanted. */
  until(condition: (health: HealthAnswer) => boolean): Promise<HealthAnswer>
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  load(models: Record<string, object>): Promise<Answer>
  /** An inference that is read to its end. */
  infer(model: string, parameters?: object): Promise<Answer & { readonly frames: Frame[] }>
  /** An inference whose answer the test reads itself. */
  open(method: string, path: string, body?: unknown, unfinished?: boolean): OpenCall
  workerPid(): number
  kill(signal: NodeJS.Signals): void
  readonly exited: Promise<number | null>
}

export interface Answer {
  readonly status: number
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
  readonly json: any
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever came
export type Frame = any

export interface OpenCall {
  readonly request: ClientRequest
  readonly response: Promise<IncomingMessage>
}

export interface RunnerOptions extends Partial<Omit<RunnerConfiguration, 'paths'>> {
  /** Folder in test/testdata/modules-runner, or an absolute path. */
  readonly module: string
  readonly env?: Record<string, string>
  readonly python?: string
  readonly environment?: string
}

export const patience = { timeout: 20_000, interval: 20 }
const root = join(import.meta.dirname, '../../..')
export const modules = join(root, 'test/testdata/modules-runner')
export const main = join(root, 'module-runner/server/main.ts')

/** Started, not waited for. Everything of it is gone when the test ends. */
export async function launch(options: RunnerOptions): Promise<TestRunner> {
  const { module, env = {}, python, environment, ...configuration } = options
  const folder = await mkdtemp(join(tmpdir(), 'berth-runner-'))
  const socket = join(folder, 'runner.sock')
  const data = join(folder, 'data')
  const full: RunnerConfiguration = {
    id: 'tested',
    format: 'service',
    entry: 'service.py',
    models: { m: {} },
    onDisconnect: 'cancel',
    calls: [],
    drainMs: 10_000,
    callMs: 10_000,
    ...configuration,
    paths: {
      module: join(modules, module),
      data,
      cache: join(folder, 'cache'),
      ...(python === undefined ? {} : { python }),
      ...(environment === undefined ? {} : { environment }),
    },
  }
  const child = spawn(process.execPath, [...runnerNodeFlags, main], {
    env: {
      ...process.env,
      BERTH_SOCKET: socket,
      BERTH_MODULE: JSON.stringify(full),
      BERTH_EXIT_WITH_STDIN: '1',
      TEST_FOLDER: folder,
      ...env,
    },
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  const exited = once(child, 'exit').then(([code]) => code as number | null)
  const logs: LogOutput[] = []
  let text = ''
  child.stdout?.setEncoding('utf8').on('data', (part: string) => {
    const lines = (text + part).split('\n')
    text = lines.pop() ?? ''
    for (const line of lines) logs.push(JSON.parse(line))
  })
  let problems = ''
  child.stderr?.setEncoding('utf8').on('data', (part: string) => {
    problems += part
  })
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail')
      console.error(
        problems,
        logs.slice(-20).map(({ message }) => message.slice(0, 300)),
      )
    child.stdin?.end()
    child.kill('SIGCONT')
    const limit = setTimeout(() => child.kill('SIGKILL'), 15_000)
    await exited
    clearTimeout(limit)
    await rm(folder, { recursive: true, force: true })
  })

  function call(
    method: string,
    path: string,
    body: unknown,
    headers: Record<string, string>,
    unfinished: boolean,
  ): OpenCall {
    const sent = request({ socketPath: socket, method, path, headers, agent: false })
    const response = once(sent, 'response').then(([answer]) => answer as IncomingMessage)
    response.catch(() => {})
    sent.on('error', () => {})
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    if (unfinished) sent.write(text)
    else sent.end(text)
    return { request: sent, response }
  }

  async function send(
    method: string,
    path: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const response = await call(method, path, body, headers, false).response
    const text = await textOf(response)
    return { status: response.statusCode ?? 0, text, json: parsed(text) }
  }

  const health = async () => (await send('GET', '/health')).json as HealthAnswer
  return {
    process: child,
    data,
    logs,
    health,
    until: (condition) =>
      vi.waitFor(async () => {
        const now = await health()
        if (!condition(now)) throw new Error(`the health is ${JSON.stringify(now)}`)
        return now
      }, patience),
    send,
    load: (models) => send('POST', '/load', { models }),
    async infer(model, parameters = {}) {
      const answer = await send('POST', '/infer', { model, config: {}, parameters })
      return { ...answer, frames: answer.status === 200 ? framesOf(answer.text) : [] }
    },
    open: (method, path, body, unfinished = false) => call(method, path, body, {}, unfinished),
    workerPid: () => workerOf(child.pid ?? 0),
    kill: (signal) => child.kill(signal),
    exited,
  }
}

/** Started, and the module imported. */
export async function start(options: RunnerOptions): Promise<TestRunner> {
  const runner = await launch(options)
  await runner.until(({ state }) => state === 'idle')
  return runner
}

/** Started, with model `m` loaded. */
export async function startLoaded(options: RunnerOptions): Promise<TestRunner> {
  const runner = await start(options)
  const { status, text } = await runner.load({ m: {} })
  if (status !== 200) throw new Error(text)
  return runner
}

export async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  response.setEncoding('utf8')
  for await (const part of response) text += part
  return text
}

/** Every line has to be whole. */
export function framesOf(text: string): Frame[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
}

export const inference = (parameters: object = {}, model = 'm') => ({ model, config: {}, parameters })

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function workerOf(runner: number): number {
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = readIfThere(`/proc/${name}/stat`)
    const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]
    if (Number(parent) === runner && readIfThere(`/proc/${name}/cmdline`).includes('berth_worker')) return Number(name)
  }
  throw new Error('there is no worker')
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/** Resident memory of a process, in bytes. */
export function residentBytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readIfThere(`/proc/${pid}/status`))?.[1] ?? 0) * 1024
}
