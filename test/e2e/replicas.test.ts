import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { engines } from '../support/engines.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** Says who answers: each replica is a process, or a container, of its own. */
const who = (version: string) => `
import os, socket, time

def SERVICE_LOAD_MODELS(Models): pass
def SERVICE_OFFLOAD_MODELS(Models): pass
def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    time.sleep(UserParameters.get("pause", 0))
    yield {"extra": {"who": f"{socket.gethostname()}/{os.getpid()}", "version": "${version}"}}
`

let berth: TestBerth | undefined

afterEach(async () => {
  await berth?.close()
  berth = undefined
})

interface Answer {
  readonly status: number
  readonly who?: string
  readonly version?: string
  readonly code?: string
}

async function ask(running: TestBerth, pause = 0): Promise<Answer> {
  const answer = await running.request('POST', '/api/models/who/infer', { stream: false, parameters: { pause } })
  const body = (await answer.json()) as {
    readonly response?: { readonly extra?: { readonly who: string; readonly version: string } }
    readonly error?: { readonly code: string }
  }
  const code = body.error?.code
  return { status: answer.status, ...body.response?.extra, ...(code === undefined ? {} : { code }) }
}

/** Requests without a break, eight at a time, until `over`; the answers. */
async function underLoad(running: TestBerth, over: () => boolean): Promise<Answer[]> {
  const answers: Answer[] = []
  await Promise.all(
    Array.from({ length: 8 }, async () => {
      while (!over()) answers.push(await ask(running, 0.01))
    }),
  )
  return answers
}

const scale = (running: TestBerth, body: Record<string, unknown>) =>
  running.json('PUT', '/api/modules/who/scale?wait=true', body)

describe.each(engines)('replicas on the %s engine', (engine) => {
  it('serve side by side, each a process of its own; fewer drain without a failed request', async () => {
    const running = await startBerth({ engine, modules: { who: { 'service.py': who('1') } } })
    berth = running
    expect(await scale(running, { replicas: 3 })).toMatchObject({ min: 3, max: 3, replicas: 3 })
    await waitFor(60_000, 'all three have answered', async () => {
      const answers = await Promise.all(Array.from({ length: 6 }, () => ask(running, 0.2)))
      return new Set(answers.map((answer) => answer.who)).size === 3
    })
    let over = false
    const load = underLoad(running, () => over)
    expect(await scale(running, { replicas: 1 })).toMatchObject({ replicas: 1 })
    over = true
    const answers = await load
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(answers.length).toBeGreaterThan(0)
    expect((await running.module('who')).replicas).toHaveLength(1)
  })

  it('of none refuse, saying how to get one; of one at most start again on demand', async () => {
    const running = await startBerth({ engine, modules: { who: { 'service.py': who('1') } } })
    berth = running
    expect((await ask(running)).status).toBe(200)
    await scale(running, { replicas: 0 })
    expect((await running.module('who')).replicas).toEqual([])
    expect(await ask(running)).toEqual({ status: 409, code: 'MODULE_DISABLED' })
    await scale(running, { min: 0, max: 1 })
    expect((await ask(running)).status).toBe(200)
  })

  it('of a changed module take over one by one, without a failed request', async () => {
    const running = await startBerth({ engine, modules: { who: { 'service.py': who('1') } } })
    berth = running
    await scale(running, { replicas: 2 })
    await ask(running)
    let over = false
    const load = underLoad(running, () => over)
    await writeFile(join(running.modulesFolder, 'who', 'service.py'), who('2'))
    await waitFor(120_000, 'only the new version answers', async () => {
      const view = await running.module('who')
      const answers = await Promise.all([ask(running), ask(running), ask(running)])
      return view.replicas.length === 2 && answers.every(({ version }) => version === '2')
    })
    over = true
    const answers = await load
    expect(answers.filter(({ status }) => status !== 200)).toEqual([])
    expect(new Set(answers.map(({ version }) => version))).toEqual(new Set(['1', '2']))
  })

  it('of a change that does not start leave the old ones serving, and the module says why', async () => {
    const running = await startBerth({ engine, modules: { who: { 'service.py': who('1') } } })
    berth = running
    expect(await ask(running)).toMatchObject({ version: '1' })
    await writeFile(join(running.modulesFolder, 'who', 'service.py'), 'raise RuntimeError("a typo")\n')
    const view = await running.until('who', ({ error }) => error !== undefined, 120_000)
    expect(view.error?.message).toContain('a typo')
    expect(await ask(running)).toMatchObject({ status: 200, version: '1' })
  })
})
