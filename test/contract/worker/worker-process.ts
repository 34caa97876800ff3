import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Frame, FrameStream } from './frame-stream.ts'

const workerFolder = resolve('module-runner/python/berth_worker')
export const modulesFolder = resolve('test/testdata/modules-worker')

type Json = Record<string, unknown>

export interface WorkerOptions {
  /** Folder name below testdata/modules-worker, or an absolute path. */
  readonly module: string
  readonly entry?: string
  readonly python?: string
  readonly calls?: readonly string[]
  /** JSON text: a number written `1.0` must stay so. */
  readonly models?: string
  readonly serviceConfiguration?: string
  readonly callMs?: number
  readonly env?: Record<string, string>
}

export interface Wire {
  readonly code: string
  readonly message: string
  readonly details?: { readonly traceback?: string; readonly missing?: readonly string[] }
}

export interface Reply {
  readonly chunks: readonly Json[]
  /** What the terminal line holds. */
  readonly end: { readonly done?: true; readonly conversation?: readonly Json[]; readonly error?: Wire }
}

/** Plays the runner: a real worker process, spoken to through its socket. */
export class WorkerProcess {
  readonly process: ChildProcess
  readonly control: FrameStream
  readonly hello: Json
  readonly data: string
  /** What the module printed. */
  printed = ''
  readonly logs: { level: string; message: string }[] = []
  readonly calls: Json[] = []
  readonly endedSlots: unknown[] = []
  readonly windows: Json[] = []
  readonly #server: Server
  readonly #folder: string
  readonly #accept: () => Promise<FrameStream>
  readonly #answers = new Map<unknown, (answer: Json) => void>()
  readonly #status = Promise.withResolvers<Json>()
  readonly exited: Promise<{ code: number | null; signal: string | null }>
  #lastId = 0

  static async start(options: WorkerOptions): Promise<WorkerProcess> {
    const folder = await mkdtemp(join(tmpdir(), 'berth-worker-'))
    const socket = join(folder, 'socket')
    const connections: FrameStream[] = []
    const wanted: ((stream: FrameStream) => void)[] = []
    const server = createServer((connection) => {
      const stream = new FrameStream(connection)
      const give = wanted.shift()
      if (give === undefined) connections.push(stream)
      else give(stream)
    })
    const accept = () =>
      new Promise<FrameStream>((give) => {
        const stream = connections.shift()
        if (stream === undefined) wanted.push(give)
        else give(stream)
      })
    await new Promise<void>((ready) => server.listen(socket, ready))
    const child = await spawnWorker(folder, socket, options)
    const control = await Promise.race([accept(), once(child, 'exit'), once(child, 'error')])
    if (!(control instanceof FrameStream)) {
      server.close()
      await rm(folder, { recursive: true, force: true })
      throw new Error(`the worker ended before it connected: ${control.join(' ')}`)
    }
    const hello = parse(await control.next())
    return new WorkerProcess({ folder, server, child, control, hello, accept })
  }

  private constructor(parts: {
    folder: string
    server: Server
    child: ChildProcess
    control: FrameStream
    hello: Json
    accept: () => Promise<FrameStream>
  }) {
    this.#folder = parts.folder
    this.#server = parts.server
    this.#accept = parts.accept
    this.process = parts.child
    this.control = parts.control
    this.hello = parts.hello
    this.data = join(parts.folder, 'data')
    for (const stream of [parts.child.stdout, parts.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.printed += text
      })
    }
    this.exited = new Promise((done) => parts.child.on('exit', (code, signal) => done({ code, signal })))
    void this.#readControl()
  }

  /** `{state: 'imported'}` or `{state: 'failed', error}`. */
  status(): Promise<Json> {
    return this.#status.promise
  }

  load(models: string): Promise<Json> {
    return this.#ask('L', `"models":${models}`)
  }

  offload(names: readonly string[]): Promise<Json> {
    return this.#ask('F', `"models":${JSON.stringify(names)}`)
  }

  async openSlot(id: string | number = `slot-${this.#lastId++}`): Promise<Slot> {
    const accepted = this.#accept()
    this.control.send('O', { open: id })
    const stream = await accepted
    return new Slot(stream, parse(await stream.next()), this.hello.attachmentNonce as string)
  }

  /** One inference on a slot of its own. */
  async infer(model: string, parameters: Json | string = {}, config: Json = {}): Promise<Reply> {
    const slot = await this.openSlot()
    try {
      return await slot.infer(model, parameters, config)
    } finally {
      slot.stream.socket.destroy()
    }
  }

  /** Result of an outgoing call. */
  result(call: unknown, frame: Json): void {
    this.control.send('R', { call, frame })
  }

  async quit(): Promise<{ code: number | null; signal: string | null }> {
    this.control.send('Q', {})
    return await this.exited
  }

  async dispose(): Promise<void> {
    this.process.kill('SIGKILL')
    this.control.socket.destroy()
    this.#server.close()
    if (this.process.exitCode === null && this.process.signalCode === null) await this.exited
    await rm(this.#folder, { recursive: true, force: true, maxRetries: 5 })
  }

  async #ask(type: string, rest: string): Promise<Json> {
    const id = ++this.#lastId
    const answer = new Promise<Json>((give) => this.#answers.set(id, give))
    this.control.send(type, `{"id":${id},${rest}}`)
    return await answer
  }

  async #readControl(): Promise<void> {
    for (let frame = await this.control.next(); frame !== undefined; frame = await this.control.next()) {
      const body = parse(frame)
      if (frame.type === 'S') this.#status.resolve(body)
      else if (frame.type === 'K') this.#answers.get(body.id)?.(body)
      else if (frame.type === 'G') this.logs.push(body as { level: string; message: string })
      else if (frame.type === 'X') this.calls.push(body)
      else if (frame.type === 'W') this.windows.push(body)
      else if (frame.type === 'T') this.endedSlots.push(body.slot)
    }
  }
}

export class Slot {
  readonly stream: FrameStream
  readonly hello: Json
  readonly #nonce: string

  constructor(stream: FrameStream, hello: Json, nonce: string) {
    this.stream = stream
    this.hello = hello
    this.#nonce = nonce
  }

  request(model: string, parameters: Json | string = {}, config: Json = {}): void {
    const text = typeof parameters === 'string' ? parameters : JSON.stringify(parameters)
    this.stream.send('I', `{"model":${JSON.stringify(model)},"config":${JSON.stringify(config)},"parameters":${text}}`)
  }

  async infer(model: string, parameters: Json | string = {}, config: Json = {}): Promise<Reply> {
    this.request(model, parameters, config)
    return await this.reply()
  }

  async reply(): Promise<Reply> {
    const chunks: Json[] = []
    for (;;) {
      const frame = await this.stream.next()
      if (frame === undefined) throw new Error('the slot ended without a terminal frame')
      const line = JSON.parse(this.#line(frame)) as Json
      if (frame.type !== 'C' && frame.type !== 'A') return { chunks, end: line }
      chunks.push(line.chunk as Json)
    }
  }

  /** The line of a frame, its attachments spliced in as base64, as the runner does it. */
  #line({ type, body }: Frame): string {
    if (type !== 'A' && type !== 'B') return body.toString()
    const length = body.readUInt32BE(0)
    let line = body.toString('utf8', 4, 4 + length)
    let offset = 4 + length
    for (let index = 0; offset < body.length; index++) {
      const size = body.readUInt32BE(offset)
      const content = body.toString('base64', offset + 4, offset + 4 + size)
      line = line.replace(`@@berth-att:${this.#nonce}:${index}@@`, () => content)
      offset += 4 + size
    }
    return line
  }
}

async function spawnWorker(folder: string, socket: string, options: WorkerOptions): Promise<ChildProcess> {
  const modulePath = resolve(modulesFolder, options.module)
  const id = modulePath.slice(modulePath.lastIndexOf('/') + 1)
  const texts = {
    id: JSON.stringify(id),
    entry: JSON.stringify(options.entry ?? 'service.py'),
    modulePath: JSON.stringify(modulePath),
    models: options.models ?? '{"m":{}}',
    serviceConfiguration: options.serviceConfiguration ?? 'null',
    dataPath: JSON.stringify(join(folder, 'data')),
    cachePath: JSON.stringify(join(folder, 'cache')),
    calls: JSON.stringify(options.calls ?? []),
    callMs: JSON.stringify(options.callMs ?? 5_000),
  }
  const fields = Object.entries(texts).map(([key, text]) => `"${key}":${text}`)
  const configuration = join(folder, 'worker.json')
  await writeFile(configuration, `{${fields.join(',')}}`)
  return spawn(options.python ?? 'python3', ['-B', workerFolder], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...options.env,
      BERTH_WORKER_SOCKET: socket,
      BERTH_WORKER_TOKEN: 'the token',
      BERTH_WORKER_CONFIG: configuration,
    },
  })
}

function parse(frame: Frame | undefined): Json {
  if (frame === undefined) throw new Error('the worker ended the connection')
  return JSON.parse(frame.body.toString()) as Json
}
