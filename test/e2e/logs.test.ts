import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, describe, expect, it, onTestFinished } from 'vitest'
import type { LogRecord } from '../../orchestrator/domain/views.ts'
import { engines } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** A module that prints without end, each start under a name of its own, each line with its number; and one that dies. */
const printer = {
  'service.py': `
import os, threading, time, uuid

Boot = uuid.uuid4().hex[:8]

def count():
    Number = 0
    while True:
        Number += 1
        print(f"{Boot} line {Number}", flush=True)
        time.sleep(0.002)

def SERVICE_LOAD_MODELS(Models):
    threading.Thread(target=count, daemon=True).start()

def SERVICE_OFFLOAD_MODELS(Models):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    if UserParameters.get("die"):
        print(f"{Boot} says farewell", flush=True)
        os._exit(3)
    yield {"text": Boot}
`,
}

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

interface Followed {
  readonly child: ChildProcessWithoutNullStreams
  /** Records that the command has printed. */
  records(): readonly LogRecord[]
  errors(): string
}

/** `berth logs -f printer --json`, the real command, until the test ends. */
function follow({ url }: TestBerth): Followed {
  const entry = join(import.meta.dirname, '../../orchestrator/cli/berth.ts')
  const child = spawn(process.execPath, [entry, 'logs', '-f', 'printer', '--json', '-n', '100000'], {
    env: { ...process.env, BERTH_URL: url },
  })
  let printed = ''
  let errors = ''
  child.stdout.on('data', (bytes: Buffer) => {
    printed += bytes.toString()
  })
  child.stderr.on('data', (bytes: Buffer) => {
    errors += bytes.toString()
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  return {
    child,
    records: () =>
      printed
        .slice(0, printed.lastIndexOf('\n') + 1)
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as LogRecord),
    errors: () => errors,
  }
}

/** Boot -> the numbers of its lines, in the order in which they came. */
function linesByBoot(records: readonly LogRecord[]): Map<string, number[]> {
  const boots = new Map<string, number[]>()
  for (const { message } of records) {
    const [, boot, number] = /^(\w{8}) line (\d+)$/.exec(message) ?? []
    if (boot === undefined) continue
    const numbers = boots.get(boot) ?? []
    numbers.push(Number(number))
    boots.set(boot, numbers)
  }
  return boots
}

function isWhole(numbers: readonly number[]): boolean {
  return numbers.every((number, index) => number === index + 1)
}

async function start(engine: 'process' | 'docker'): Promise<TestBerth> {
  berth = await startBerth({
    engine,
    modules: { printer: { ...printer } },
    config: 'models:\n  printer: { module: printer }\n',
  })
  return berth
}

async function bootOf(current: TestBerth): Promise<string> {
  const frames = await current.infer('printer')
  return frames.find(({ chunk }) => chunk !== undefined)?.chunk?.response.text ?? ''
}

async function printed(followed: Followed, boot: string, more = 50): Promise<void> {
  const count = () => linesByBoot(followed.records()).get(boot)?.length ?? 0
  const before = count()
  await waitFor(
    30_000,
    () => `${more} lines more of ${boot}; ${followed.errors()}`,
    async () => count() >= before + more,
  )
}

describe.each(engines)('logs -f on the %s engine', (engine) => {
  it('goes on over restarts of the module, each line once and in order', async () => {
    const current = await start(engine)
    const followed = follow(current)
    const boots: string[] = []
    for (let round = 0; round < 3; round += 1) {
      boots.push(await bootOf(current))
      await printed(followed, boots.at(-1) ?? '')
      await current.json('POST', '/api/modules/printer/restart?wait=true')
    }
    expect(new Set(boots).size).toBe(3)
    for (const boot of boots) expect(isWhole(linesByBoot(followed.records()).get(boot) ?? [0])).toBe(true)
    expect(followed.errors()).toBe('')
  })

  it('goes on over restarts of the orchestrator, killed or stopped, each line once and in order', async () => {
    const current = await start(engine)
    const followed = follow(current)
    const boots = new Set<string>()
    for (const end of ['kill', 'stop', 'kill', 'kill'] as const) {
      const boot = await bootOf(current)
      boots.add(boot)
      await printed(followed, boot)
      await current[end]()
      await current.restart()
    }
    const last = await bootOf(current)
    boots.add(last)
    await printed(followed, last)
    // Containers outlive the orchestrator; the processes of the embedded engine end with it.
    expect(boots.size).toBe(engine === 'docker' ? 1 : 5)
    for (const [boot, numbers] of linesByBoot(followed.records())) {
      expect(isWhole(numbers), `${boot}: ${numbers.filter((number, at) => number !== at + 1).slice(0, 5)}`).toBe(true)
    }
    expect(followed.errors()).toContain('connected to')
    followed.child.kill('SIGINT')
    const [code] = followed.child.exitCode === null ? await once(followed.child, 'exit') : [followed.child.exitCode]
    expect(code).toBe(130)
  })

  it('has what a module said last before it died', async () => {
    const current = await start(engine)
    const boot = await bootOf(current)
    await current.infer('printer', { parameters: { die: true } })
    await waitFor(30_000, 'its last words', async () =>
      (await current.logs('printer')).some(({ message }) => message === `${boot} says farewell`),
    )
    await waitFor(30_000, 'it is back', async () => (await bootOf(current)) !== boot)
  })
})
