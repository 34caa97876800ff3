import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { failureOf, textOf } from '../support/answers.ts'
import { dockerAvailable } from '../support/docker.ts'
import { docker } from '../support/docker-cleanup.ts'
import { type DockerProxy, dockerProxy } from '../support/docker-proxy.ts'
import { plainModule } from '../support/engines.ts'
import { containersOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth, waitFor } from '../support/orchestrator.ts'

/** The engine goes away while Berth runs, and comes back: modules go on without it and are adopted afterwards. */
describe.skipIf(!dockerAvailable)('an engine that is lost while Berth runs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'berth-proxy-'))
  let proxy: DockerProxy
  let berth: TestBerth

  beforeAll(async () => {
    proxy = await dockerProxy(join(folder, 'docker.sock'))
    berth = await startBerth({
      engine: 'docker',
      modules: { plain: { ...plainModule }, other: { ...plainModule } },
      config: 'models:\n  plain: { module: plain, max_simul_users: 4 }\n  other: { module: other }\n',
      env: { DOCKER_HOST: proxy.address },
    })
    await berth.infer('plain')
  })
  afterAll(async () => {
    await proxy?.mend().catch(() => {})
    await berth?.close()
    await proxy?.close()
    rmSync(folder, { recursive: true, force: true })
  })

  const readiness = async () => {
    const answer = await berth.request('GET', '/readyz')
    return { status: answer.status, ...((await answer.json()) as { ready: boolean; reasons: string[] }) }
  }
  const lose = async () => {
    await proxy.lose()
    await waitFor(30_000, 'the loss is noticed', async () => (await readiness()).status === 503)
  }
  const mend = async () => {
    await proxy.mend()
    await waitFor(60_000, 'the engine is there again', async () => (await readiness()).status === 200)
  }

  it('is told by /readyz with the reason, while streams and loaded modules go on; then all is as it was', async () => {
    const before = (await berth.module('plain')).replicas
    const stream = await berth.stream('plain', { parameters: { n: 400, pause: 0.02 } })
    await stream.nextOf()
    await lose()
    const { ready, reasons } = await readiness()
    expect(ready).toBe(false)
    expect(reasons.join()).toContain(join(folder, 'docker.sock'))
    expect((await berth.request('GET', '/healthz')).status).toBe(200)
    expect(textOf(await berth.infer('plain', { parameters: { n: 3 } }))).toBe('012')
    expect(await berth.module('plain')).toMatchObject({ state: 'ready' })

    await mend()
    const frames = await stream.rest()
    expect(frames.at(-1)).toMatchObject({ done: true })
    expect(frames).toHaveLength(400)
    expect(textOf(await berth.infer('plain'))).toBe('0')
    const after = (await berth.module('plain')).replicas
    expect(after.map(({ id, generation, container, restarts }) => ({ id, generation, container, restarts }))).toEqual(
      before.map(({ id, generation, container, restarts }) => ({ id, generation, container, restarts })),
    )
    expect(containersOf(berth.instance()).filter(({ replica }) => replica.startsWith('plain'))).toHaveLength(1)
  })

  it('is the answer to what needs it, with when to come back, and that works once it has', async () => {
    await berth.json('POST', '/api/modules/other/disable?wait=true')
    await lose()
    await berth.request('POST', '/api/modules/other/enable')
    const answer = await berth.request('POST', '/api/models/other/infer', {})
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/)
    expect(await failureOf(answer)).toMatchObject({ code: 'ENGINE_UNAVAILABLE', status: 503, retryable: true })
    await mend()
    await waitFor(60_000, 'it answers', async () => textOf(await berth.infer('other')) === '0')
  })

  it('and whose container has ended meanwhile is given another, once', async () => {
    await berth.infer('plain')
    const [replica] = (await berth.module('plain')).replicas
    await lose()
    await docker('rm', '--force', replica?.container ?? '')
    await mend()
    await waitFor(60_000, 'it answers', async () => textOf(await berth.infer('plain')) === '0')
    const running = () => containersOf(berth.instance()).filter((each) => each.replica.startsWith('plain'))
    await waitFor(20_000, 'one of it runs', async () => running().length === 1)
    expect((await berth.module('plain')).replicas).toHaveLength(1)
  })
})
