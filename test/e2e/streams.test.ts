import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { extraOf, inferFailure, textOf } from '../support/answers.ts'
import { engines, plainModule } from '../support/engines.ts'
import { containersOf, processesInContainers, processesOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** Streams from end to end: backpressure, what their headers say, clients that leave, and orchestrators that are told to end. */

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

const MiB = 1024 * 1024

/** Yields 64 KiB at a time and tells how much it has. */
const source = {
  'module.yaml': 'models: { flow: { max_simul_users: 2 } }\n',
  'service.py': `
yielded = 0
part = "x" * 65536

def SERVICE_LOAD_MODELS(Models):
    pass

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    global yielded
    if "mebibytes" not in UserParameters:
        yield {"extra": {"yielded": yielded}}
        return
    for _ in range(UserParameters["mebibytes"] * 16):
        yielded += len(part)
        yield {"text": part}
`,
}

/** An answer whose bytes come only as fast as they are taken. */
async function openAnswer(url: string, body: unknown): Promise<IncomingMessage> {
  const call = request(`${url}/api/models/flow/infer`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
  })
  call.end(JSON.stringify(body))
  const [answer] = (await once(call, 'response')) as [IncomingMessage]
  return answer
}

const residentBytes = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024

describe.each(engines)('a stream on the %s engine', (engine) => {
  /** Orchestrator, runner and worker by their process ids. */
  function partsOf(of: TestBerth): Record<string, number> {
    const all =
      engine === 'docker' ? processesInContainers(of.instance()) : processesOf(`BERTH_INSTANCE=${of.instance()}`)
    const pid = (program: string) =>
      Number(
        /process (\d+)/.exec(
          all.find(({ what }) => what.includes(program) && !what.includes('-init -- '))?.what ?? '',
        )?.[1],
      )
    return {
      orchestrator: Number(of.process.pid),
      runner: pid('module-runner/server'),
      worker: pid('berth_worker'),
    }
  }

  it('waits for a client that does not read, and grows nobody for one that reads slowly', async () => {
    berth = await startBerth({ engine, modules: { source } })
    const current = berth
    const yielded = async () => Number((await extraOf(current, 'flow', {})).yielded)
    // What a first stream of some size makes everyone set up once is not what is measured.
    await berth.infer('flow', { parameters: { mebibytes: 1 } })
    const before = await yielded()
    const parts = partsOf(berth)
    const atRest = Object.fromEntries(Object.entries(parts).map(([name, pid]) => [name, residentBytes(pid)]))
    const most: Record<string, number> = {}
    const look = () => {
      for (const [name, pid] of Object.entries(parts))
        most[name] = Math.max(most[name] ?? 0, residentBytes(pid) - Number(atRest[name]))
    }

    const answer = await openAnswer(berth.url, { parameters: { mebibytes: 128 } })
    // Nothing is read: once the connections' own buffers are full, nothing is yielded any more.
    let last = -1
    let same = 0
    await waitFor(60_000, 'the module stands still', async () => {
      const now = await yielded()
      same = now === last ? same + 1 : 0
      last = now
      look()
      return same >= 5
    })
    expect(last - before).toBeGreaterThan(0)
    expect(last - before).toBeLessThan(64 * MiB)

    let bytes = 0
    let sinceLook = 0
    for await (const part of answer as AsyncIterable<Buffer>) {
      bytes += part.length
      sinceLook += part.length
      if (sinceLook < MiB) continue
      sinceLook = 0
      look()
      // Its reading is slow, at about 16 MiB a second.
      await new Promise((resolve) => setTimeout(resolve, 60))
    }
    expect(bytes).toBeGreaterThan(128 * MiB)
    expect((await yielded()) - before).toBe(128 * MiB)
    for (const [name, growth] of Object.entries(most)) expect(growth, `growth of the ${name}`).toBeLessThan(32 * MiB)
  })

  it('carries the id of its request, and what it waited for', async () => {
    berth = await startBerth({
      engine,
      modules: { plain: { ...plainModule } },
      config: 'models: { plain: { module: plain, load_seconds: 0.1 } }\n',
    })
    const cold = await berth.request('POST', '/api/models/plain/infer', {}, { headers: { 'x-request-id': 'mine-2' } })
    expect(cold.headers.get('x-request-id')).toBe('mine-2')
    const timing = timingOf(cold)
    expect(timing.start).toBeGreaterThan(0)
    expect(timing.load).toBeGreaterThanOrEqual(100)
    await cold.text()
    const warm = await berth.request('POST', '/api/models/plain/infer', { stream: false })
    expect(warm.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    expect(timingOf(warm)).toMatchObject({ start: 0, load: 0 })
    await warm.text()
  })

  it('goes on to its end when the orchestrator is told to end; the container goes on after it', async () => {
    berth = await startBerth({ engine, modules: { plain: { ...plainModule } } })
    const stream = await berth.stream('plain', { parameters: { n: 100, pause: 0.05 } })
    expect((await stream.next())?.chunk).toBeDefined()
    const [before] = (await berth.module('plain')).replicas
    const ended = once(berth.process, 'exit')
    berth.process.kill('SIGTERM')
    const current = berth
    await waitFor(10_000, 'new requests are turned away, at an open port', async () => {
      const { code } = await inferFailure(current, 'no-such-model')
      return code === 'SHUTTING_DOWN'
    })
    const frames = await stream.rest()
    expect(frames.at(-1)).toEqual({ done: true })
    expect(frames).toHaveLength(100)
    expect(await ended).toEqual([0, null])

    const left =
      engine === 'docker' ? containersOf(berth.instance()) : processesOf(`BERTH_INSTANCE=${berth.instance()}`)
    expect(left).toHaveLength(engine === 'docker' ? 1 : 0)
    await berth.restart()
    if (engine === 'docker') {
      const adopted = await berth.until('plain', ({ state }) => state === 'ready')
      expect(adopted.replicas).toMatchObject([
        { generation: before?.generation, container: before?.container, models: ['plain'] },
      ])
    }
    expect(textOf(await berth.infer('plain'))).toBe('0')
  })

  it('leaves no container behind where `shutdown` is `stop`', async () => {
    berth = await startBerth({ engine, modules: { plain: { ...plainModule } }, config: 'shutdown: stop\n' })
    expect(textOf(await berth.infer('plain'))).toBe('0')
    const ended = once(berth.process, 'exit')
    berth.process.kill('SIGTERM')
    expect(await ended).toEqual([0, null])
    if (engine === 'docker') expect(containersOf(berth.instance())).toEqual([])
    else expect(processesOf(`BERTH_INSTANCE=${berth.instance()}`)).toEqual([])
  })
})

function timingOf(answer: Response): Record<string, number> {
  const parts = (answer.headers.get('server-timing') ?? '').split(',')
  return Object.fromEntries(
    parts.map((part) => {
      const [name = '', duration = ''] = part.trim().split(';dur=')
      return [name, Number(duration)]
    }),
  )
}

/** Each stage waits for a file, so that a client can leave in it. */
const stages = (folder: string) => {
  const wait = (stage: string) => `
import os, time
while not os.path.exists(${JSON.stringify(join(folder, stage))}):
    time.sleep(0.02)
`
  const indented = (stage: string) => wait(stage).replaceAll('\n', '\n    ')
  return {
    'requirements.py': `def Install(_):\n${indented('install')}`,
    'service.py': `${wait('import')}
def SERVICE_LOAD_MODELS(Models):
    print("load begins")
${indented('load')}

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    while not os.path.exists(UserParameters["gate"]):
        time.sleep(0.02)
    yield {"text": "an answer"}
`,
  }
}

describe('a client that leaves', () => {
  it('in any stage leaves nothing waiting; the stage goes on for those who stay', async () => {
    berth = await startBerth({ engine: 'process' })
    const current = berth
    const { folder } = berth
    await berth.writeModule('stages', stages(folder))
    await berth.until('stages', () => true)
    const model = async () => (await current.models()).find(({ name }) => name === 'stages')
    const counts = (queued: number, inflight: number) => async () => {
      const seen = await model()
      return seen?.queued === queued && seen.inflight === inflight
    }
    const view = () => current.module('stages')
    const ask = (gate: string, signal?: AbortSignal) =>
      current.stream('stages', { parameters: { gate: join(folder, gate) } }, signal ? { signal } : {})
    const staying = ask('first')

    for (const [stage, reached] of [
      ['install', async () => (await view()).environment?.state === 'installing'],
      ['import', async () => (await view()).state === 'starting'],
      ['load', async () => (await view()).state === 'loading'],
    ] as const) {
      await waitFor(60_000, `it is at its ${stage}`, reached)
      const leaving = new AbortController()
      const left = expect(ask('first', leaving.signal)).rejects.toThrow()
      await waitFor(10_000, `both wait for the ${stage}`, counts(2, 0))
      leaving.abort()
      await left
      await waitFor(10_000, `who stays waits for the ${stage}`, counts(1, 0))
      expect(await reached()).toBe(true)
      await writeFile(join(folder, stage), '')
    }
    await waitFor(30_000, 'who stays is served', counts(0, 1))
    await writeFile(join(folder, 'first'), '')
    expect(textOf(await (await staying).rest())).toBe('an answer')

    const leaving = new AbortController()
    const left = expect(ask('second', leaving.signal)).rejects.toThrow()
    await waitFor(10_000, 'it computes', counts(0, 1))
    leaving.abort()
    await left
    await waitFor(10_000, 'nobody waits for it', counts(0, 0))
    await writeFile(join(folder, 'second'), '')
    expect(textOf(await (await ask('first')).rest())).toBe('an answer')
  })
})
