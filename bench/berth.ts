import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ModuleView } from '../orchestrator/domain/views.ts'
import { childrenOf, commandOf, environmentOf } from './processes.ts'
import { answers, freePort, type RunningProgram, startProgram, until } from './programs.ts'

/** An orchestrator as a user starts it, with folders of its own, for one comparison. */
export interface Berth {
  readonly url: string
  readonly pid: number
  readonly modulesFolder: string
  readonly dataFolder: string
  /** Adds a folder of bench/modules, or any other, as a module. */
  addModule(id: string, from: string): Promise<void>
  module(id: string): Promise<ModuleView | undefined>
  untilModule(id: string, what: string, condition: (view: ModuleView) => boolean): Promise<void>
  post(path: string, body?: unknown): Promise<string>
  get(path: string): Promise<string>
  infer(model: string, parameters: Record<string, unknown>): Promise<string>
  /** Of an embedded module that is loaded. */
  processes(): { readonly runner: number; readonly worker: number }
  /** Ends it and starts it again on the same folders. */
  restart(env?: NodeJS.ProcessEnv): Promise<void>
  close(): Promise<void>
}

export interface BerthOptions {
  readonly engine: 'process' | 'docker'
  /** Model of the same name -> its configuration. */
  readonly models?: Readonly<Record<string, Record<string, unknown>>>
  readonly env?: NodeJS.ProcessEnv
}

const repositoryRoot = join(import.meta.dirname, '..')
export const benchModule = (id: string): string => join(import.meta.dirname, 'modules', id)

export async function startBerth(options: BerthOptions): Promise<Berth> {
  const folder = await mkdtemp(join(tmpdir(), 'berth-bench-'))
  const modulesFolder = join(folder, 'modules')
  await mkdir(modulesFolder)
  await writeFile(join(folder, 'berth.yaml'), JSON.stringify({ models: options.models ?? {} }))
  const dataFolder = join(folder, 'data')
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  let program: RunningProgram

  async function start(env: NodeJS.ProcessEnv = {}): Promise<void> {
    program = await startProgram(process.execPath, [join(repositoryRoot, 'orchestrator/main.ts')], {
      cwd: folder,
      env: {
        ...process.env,
        BERTH_CONFIG: join(folder, 'berth.yaml'),
        BERTH_MODULES: modulesFolder,
        BERTH_DATA: dataFolder,
        BERTH_LISTEN: `127.0.0.1:${port}`,
        BERTH_ENGINE: options.engine,
        BERTH_AUTH: 'none',
        ...options.env,
        ...env,
      },
      ready: () => answers(`${url}/readyz`),
    })
  }

  async function post(path: string, body: unknown = {}): Promise<string> {
    const answer = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    const text = await answer.text()
    if (!answer.ok) throw new Error(`POST ${path}: ${answer.status} ${text}`)
    return text
  }

  await start().catch(async (error: unknown) => {
    await rm(folder, { recursive: true, force: true })
    throw error
  })

  const berth: Berth = {
    url,
    get pid() {
      return program.pid
    },
    modulesFolder,
    dataFolder,
    async addModule(id, from) {
      await cp(from, join(modulesFolder, id), { recursive: true })
      await berth.untilModule(id, 'it is seen', () => true)
    },
    async module(id) {
      const answer = await fetch(`${url}/api/modules/${id}`)
      return answer.status === 200 ? ((await answer.json()) as ModuleView) : undefined
    },
    async untilModule(id, what, condition) {
      await until(`module ${id}: ${what}`, async () => {
        const view = await berth.module(id)
        if (view?.error !== undefined) throw new Error(`module ${id}: ${JSON.stringify(view.error)}`)
        return view !== undefined && condition(view)
      })
    },
    post,
    async get(path) {
      return (await fetch(`${url}${path}`)).text()
    },
    async infer(model, parameters) {
      const text = await post(`/api/models/${model}/infer`, { parameters })
      if (!text.endsWith('{"done":true}\n')) throw new Error(`the inference did not end well: ${text.slice(-500)}`)
      return text
    },
    processes() {
      const runner = childrenOf(program.pid).find((pid) => commandOf(pid).includes('module-runner/server/main.ts'))
      const worker = runner === undefined ? undefined : childrenOf(runner)[0]
      if (runner === undefined || worker === undefined) throw new Error('the module does not run')
      return { runner, worker }
    },
    async restart(env) {
      await program.stop()
      await start(env)
    },
    async close() {
      await post('/api/shutdown').catch(() => {})
      await program.stop()
      await rm(folder, { recursive: true, force: true, maxRetries: 5 })
    },
  }
  return berth
}

/** How a peer reaches the runner that the orchestrator has started: the same socket, the same token. */
export function runnerAccess(runner: number): { readonly socket: string; readonly token: string } {
  const { BERTH_SOCKET: socket, BERTH_TOKEN: token } = environmentOf(runner)
  if (socket === undefined || token === undefined) throw new Error('the runner has no socket')
  return { socket, token }
}
