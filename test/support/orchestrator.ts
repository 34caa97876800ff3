import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { fileURLToPath } from 'node:url'
import type { LogRecord, ModelView, ModuleView } from '../../orchestrator/domain/views.ts'
import { removeInstances } from './docker-cleanup.ts'
import { type Frame, type FrameReader, readFrames } from './frames.ts'

export type { Frame } from './frames.ts'

/** A real orchestrator in a process of its own, with folders of its own, driven over HTTP as a user would. */
export interface TestBerth {
  readonly url: string
  readonly folder: string
  readonly modulesFolder: string
  readonly dataFolder: string
  readonly process: ChildProcess
  /** Everything that it wrote to standard error. */
  log(): string
  request(method: string, path: string, body?: unknown, options?: RequestOptions): Promise<Response>
  json<T = Record<string, unknown>>(method: string, path: string, body?: unknown): Promise<T>
  module(id: string): Promise<ModuleView>
  models(): Promise<readonly ModelView[]>
  /** Frames of a streamed inference. */
  infer(model: string, body?: Record<string, unknown>): Promise<Frame[]>
  /** A streamed inference, frame by frame. */
  stream(model: string, body?: Record<string, unknown>, options?: RequestOptions): Promise<FrameReader>
  /** Lines of a module's log. */
  logs(id: string): Promise<readonly LogRecord[]>
  /** The id in the labels of all that it makes. */
  instance(): string
  /** Waits until the module's view satisfies the condition. */
  until(id: string, condition: (view: ModuleView) => boolean, timeoutMs?: number): Promise<ModuleView>
  writeModule(id: string, files: Readonly<Record<string, string>>): Promise<void>
  /** SIGKILL to the orchestrator; nothing is cleaned up. */
  kill(): Promise<void>
  /** SIGTERM; resolves with its exit code. */
  stop(): Promise<number | null>
  /** Starts again on the same folders and port; `wait: false` does not wait until it is ready. */
  restart(options?: { readonly wait: boolean }): Promise<void>
  /** SIGTERM, then everything that is left of it is removed. */
  close(): Promise<void>
}

interface RequestOptions {
  readonly headers?: Record<string, string>
  readonly signal?: AbortSignal
}

export interface TestBerthOptions {
  readonly engine: 'process' | 'docker'
  /** module id -> file -> content */
  readonly modules?: Readonly<Record<string, Readonly<Record<string, string>>>>
  /** Folders to copy into the modules folder. */
  readonly copy?: readonly string[]
  readonly config?: string
  readonly env?: Readonly<Record<string, string>>
  /** Program and arguments to run it with, before Node's own; what it makes must then be writable for anybody. */
  readonly under?: readonly string[]
  /** What `/readyz` answers when it has started; 200 when absent. */
  readonly ready?: number
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const main = join(root, 'orchestrator/main.ts')

/** Shorter than a test's own time, so that what hangs says where. */
const longestRequestMs = 150_000

export async function startBerth(options: TestBerthOptions): Promise<TestBerth> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-e2e-'))
  const modulesFolder = join(folder, 'modules')
  const dataFolder = join(folder, 'data')
  await mkdir(modulesFolder, { recursive: true })
  for (const [id, files] of Object.entries(options.modules ?? {})) await writeFiles(join(modulesFolder, id), files)
  for (const source of options.copy ?? []) {
    await cp(join(root, source), join(modulesFolder, source.split('/').at(-1) ?? source), { recursive: true })
  }
  if (options.config !== undefined) await writeFile(join(folder, 'berth.yaml'), options.config)
  if (options.under) await Promise.all([folder, modulesFolder].map((path) => chmod(path, 0o777)))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const env = {
    ...process.env,
    BERTH_CONFIG: options.config === undefined ? '' : join(folder, 'berth.yaml'),
    BERTH_MODULES: modulesFolder,
    BERTH_DATA: dataFolder,
    BERTH_LISTEN: `127.0.0.1:${port}`,
    BERTH_ENGINE: options.engine,
    ...options.env,
  }
  let child: ChildProcess
  let log = ''

  async function start({ wait }: { readonly wait: boolean } = { wait: true }): Promise<void> {
    const [program = process.execPath, ...args] = [...(options.under ?? []), process.execPath, main]
    child = spawn(program, args, { cwd: folder, env: clean(env), stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout?.on('data', (bytes: Buffer) => {
      log += bytes.toString()
    })
    child.stderr?.on('data', (bytes: Buffer) => {
      log += bytes.toString()
    })
    const started = child
    if (!wait) return
    await waitFor(60_000, 'the orchestrator is ready', async () => {
      if (started.exitCode !== null || started.signalCode !== null) throw new Error(`the orchestrator ended:\n${log}`)
      return (
        (await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(10_000) }).catch(() => undefined))?.status ===
        (options.ready ?? 200)
      )
    })
  }

  async function request(method: string, path: string, body?: unknown, extra: RequestOptions = {}): Promise<Response> {
    return fetch(`${url}${path}`, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...extra.headers },
      ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
      signal: extra.signal ?? AbortSignal.timeout(longestRequestMs),
    }).catch((error: unknown) => {
      if (!(error instanceof Error) || error.name !== 'TimeoutError') throw error
      throw new Error(`${method} ${path} had no answer within ${longestRequestMs} ms:\n${log.slice(-4_000)}`)
    })
  }

  async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await (await request(method, path, body)).json()) as T
  }

  await start().catch(async (error: unknown) => {
    child?.kill('SIGKILL')
    await rm(folder, { recursive: true, force: true })
    throw error
  })

  const berth: TestBerth = {
    url,
    folder,
    modulesFolder,
    dataFolder,
    get process() {
      return child
    },
    log: () => log,
    request,
    json,
    module: (id) => json<ModuleView>('GET', `/api/modules/${encodeURIComponent(id)}`),
    models: async () => (await json<{ models: ModelView[] }>('GET', '/api/models')).models,
    async infer(model, body = {}) {
      const answer = await request('POST', `/api/models/${encodeURIComponent(model)}/infer`, body, {
        signal: AbortSignal.timeout(90_000),
      })
      const text = await answer.text()
      return text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as Frame)
    },
    async stream(model, body = {}, extra = {}) {
      return readFrames(await request('POST', `/api/models/${encodeURIComponent(model)}/infer`, body, extra))
    },
    async logs(id) {
      const answer = await request('GET', `/api/modules/${encodeURIComponent(id)}/logs?tail=1000`)
      const lines = (await answer.text()).split('\n').filter((line) => line !== '')
      return lines.map((line) => JSON.parse(line) as LogRecord)
    },
    instance: () => instanceOf(env.BERTH_DATA ?? dataFolder),
    async until(id, condition, timeoutMs = 60_000) {
      let last: ModuleView | undefined
      await waitFor(
        timeoutMs,
        () => `module ${id} gets there; last seen: ${JSON.stringify(last)}`,
        async () => {
          const answer = await request('GET', `/api/modules/${encodeURIComponent(id)}`)
          if (answer.status !== 200) return false
          last = (await answer.json()) as ModuleView
          return condition(last)
        },
      )
      return last as ModuleView
    },
    writeModule: (id, files) => writeFiles(join(modulesFolder, id), files),
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    },
    async stop() {
      const gone = once(child, 'exit')
      child.kill('SIGTERM')
      await gone
      return child.exitCode
    },
    restart: start,
    async close() {
      if (child.exitCode === null && child.signalCode === null) {
        await request('POST', '/api/shutdown', {}, { signal: AbortSignal.timeout(90_000) }).catch(() => {})
        const gone = child.exitCode === null && child.signalCode === null ? once(child, 'exit') : undefined
        child.kill('SIGTERM')
        await Promise.race([gone, new Promise((resolve) => setTimeout(resolve, 30_000).unref())])
        child.kill('SIGKILL')
      }
      if (options.engine === 'docker') {
        const instance = instanceOf(env.BERTH_DATA ?? dataFolder)
        await removeInstances((found) => found === instance)
      }
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  return berth
}

function instanceOf(dataFolder: string): string {
  const db = new DatabaseSync(join(dataFolder, 'berth.db'), { readOnly: true })
  try {
    return String(db.prepare('SELECT id FROM instance').get()?.id)
  } finally {
    db.close()
  }
}

async function writeFiles(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name)
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, content)
  }
}

function clean(env: Record<string, string | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== ''),
  )
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port')
  return address.port
}

/** Polls until true; the bound is for failures only. */
export async function waitFor(
  timeoutMs: number,
  what: string | (() => string),
  condition: () => Promise<boolean>,
): Promise<void> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    if (await condition()) return
    if (Date.now() > deadline)
      throw new Error(`not within ${timeoutMs} ms: ${typeof what === 'string' ? what : what()}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
