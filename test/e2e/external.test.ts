import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ModuleView } from '../../orchestrator/domain/views.ts'
import { inferFailure, textOf } from '../support/answers.ts'
import { type ComposeProject, composeProject } from '../support/compose.ts'
import { dockerAvailable } from '../support/docker.ts'
import { docker, testInstance } from '../support/docker-cleanup.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** A service that compose runs, used and balanced over by an orchestrator that neither starts nor stops it. */
describe.skipIf(!dockerAvailable)('a compose service', () => {
  let berth: TestBerth
  let project: ComposeProject

  beforeAll(async () => {
    berth = await startBerth({ engine: 'docker' })
    const manifest = '{"id":"who","models":{"who":{"max_simul_users":4}}}'
    project = await composeProject(testInstance(), { 'dev.berth.module': manifest, 'dev.berth.for': berth.instance() })
  })
  afterAll(async () => {
    await project?.remove()
    await berth?.close()
  })

  const live = ({ replicas }: ModuleView) => replicas.filter(({ state }) => state === 'ready' || state === 'idle')
  const untilLive = (count: number) => berth.until('who', (view) => live(view).length === count)
  const who = async (): Promise<string> => textOf(await berth.infer('who'))

  /** Requests without a pause, until it is ended; what did not end well, and who answered how often. */
  function load(clients: number) {
    const failures: unknown[] = []
    const answered = new Map<string, number>()
    let ended = false
    const client = async (): Promise<void> => {
      while (!ended) {
        const frames = await berth.infer('who', { parameters: { seconds: 0.02 } })
        const text = textOf(frames)
        if (frames.at(-1)?.done !== true) failures.push(frames)
        else answered.set(text, (answered.get(text) ?? 0) + 1)
      }
    }
    const all = Promise.all(Array.from({ length: clients }, client))
    const total = () => [...answered.values()].reduce((sum, count) => sum + count, 0)
    return {
      failures,
      answered,
      total,
      /** Until so many more have been answered. */
      async more(count: number) {
        const goal = total() + count
        await waitFor(120_000, 'requests are answered', async () => total() >= goal)
      },
      async end() {
        ended = true
        await all
      },
    }
  }

  it('is found, used, and seen for what it is', async () => {
    await project.scale(1)
    const view = await untilLive(1)
    const [host] = await project.running()
    expect(await who()).toBe(host)
    expect(view).toMatchObject({ format: 'image', desired: 'enabled', models: ['who'] })
    expect(view.source).toMatch(/^compose service test-.*\/who$/)
    expect(view.replicas).toMatchObject([{ container: expect.stringMatching(/-who-1$/) }])
    expect(view.security.findings.join()).toContain('somebody else runs its containers')
  })

  it('is balanced over when it is scaled up, and scaled down without a failed request', async () => {
    const requests = load(8)
    try {
      await requests.more(20)
      await project.scale(3)
      await untilLive(3)
      const hosts = await project.running()
      await waitFor(60_000, 'all three answer', async () => hosts.every((host) => requests.answered.has(host)))
      await requests.more(200)
      await project.scale(1)
      await untilLive(1)
      await requests.more(400)
    } finally {
      await requests.end()
    }
    expect(requests.failures).toEqual([])
    expect(await project.running()).toHaveLength(1)
  })

  it('finishes what is under way when its container is told to end', async () => {
    await project.scale(2)
    await untilLive(2)
    const slow = Promise.all(Array.from({ length: 8 }, () => berth.infer('who', { parameters: { seconds: 3 } })))
    await berth.until('who', ({ replicas }) => replicas.every(({ inflight }) => inflight > 0))
    const requests = load(4)
    await requests.more(1)
    await project.scale(1)
    await requests.more(20)
    await requests.end()
    expect(requests.failures).toEqual([])
    expect((await slow).map((frames) => frames.at(-1))).toEqual(Array(8).fill(expect.objectContaining({ done: true })))
    await untilLive(1)
  })

  it('is taken out of use by disable, and goes on running', async () => {
    const before = await project.running()
    expect((await berth.request('POST', '/api/modules/who/disable?wait=true')).status).toBe(200)
    expect(await inferFailure(berth, 'who')).toMatchObject({ code: 'MODULE_DISABLED' })
    expect(await project.running()).toEqual(before)
    expect((await berth.request('POST', '/api/modules/who/enable?wait=true')).status).toBe(200)
    expect(before).toContain(await who())
  })

  it.each([
    ['POST', '/api/modules/who/restart', {}],
    ['PUT', '/api/modules/who/scale', { min: 2, max: 2 }],
    ['DELETE', '/api/modules/who', undefined],
  ])('is neither started nor stopped: %s %s is refused', async (method, path, body) => {
    const answer = await berth.request(method, path, body)
    expect(answer.status).toBe(403)
    expect(await answer.text()).toContain('does not run its containers')
    expect(await project.running()).toHaveLength(1)
  })

  it('goes on with the others when one of its containers is killed', async () => {
    await project.scale(2)
    await untilLive(2)
    const [victim, survivor] = await project.running()
    await docker('kill', String(victim))
    await untilLive(1)
    expect(await who()).toBe(survivor)
    await docker('start', String(victim))
    await untilLive(2)
  })

  it('survives the orchestrator, and is used again by the next one', async () => {
    const before = await project.running()
    await berth.kill()
    expect(await project.running()).toEqual(before)
    await berth.restart()
    expect(before).toContain(await who())
    await untilLive(2)
    await berth.request('POST', '/api/shutdown', {}).catch(() => undefined)
    await waitFor(
      60_000,
      'it has ended',
      async () => (await fetch(`${berth.url}/healthz`).catch(() => undefined)) === undefined,
    )
    expect(await project.running()).toEqual(before)
    await berth.restart()
    await untilLive(2)
  })

  it('is gone with its last container', async () => {
    await project.compose('stop')
    await berth.until('who', ({ replicas, state }) => replicas.length === 0 && state === 'absent')
    expect(await inferFailure(berth, 'who')).toMatchObject({
      code: 'RUNNER_UNREACHABLE',
      message: expect.stringContaining('No container of module who runs'),
    })
    await project.compose('start')
    await untilLive(2)
    await project.compose('down')
    await waitFor(60_000, 'it is gone', async () => (await berth.request('GET', '/api/modules/who')).status === 404)
  })
})
