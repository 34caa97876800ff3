import { join } from 'node:path'
import { GenericContainer, type StartedTestContainer, Wait } from 'testcontainers'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createRunnerClient, type RunnerClient } from '../../../orchestrator/runner/client.ts'
import { dockerAvailable } from '../../support/docker.ts'

/** The runner client against a container that somebody else runs and that is not Berth's own runner. */
process.env.TESTCONTAINERS_RYUK_DISABLED = 'true'

const token = 'a-token-of-this-test'

describe.skipIf(!dockerAvailable)('an image that speaks the runner protocol', () => {
  let container: StartedTestContainer
  let client: RunnerClient

  beforeAll(async () => {
    const image = await GenericContainer.fromDockerfile(join(import.meta.dirname, '../../testdata/docker/shout')).build(
      'berth-test/shout:local',
      { deleteOnExit: false },
    )
    container = await image
      .withEnvironment({ BERTH_TOKEN: token })
      .withLabels({ 'dev.berth.test': '1', 'dev.berth.for': 'nobody' })
      .withExposedPorts(8000)
      .withWaitStrategy(Wait.forHttp('/health', 8000).forStatusCode(200))
      .withStartupTimeout(60_000)
      .start()
    client = clientWith(token)
  })

  afterAll(async () => {
    client?.close()
    await container?.stop()
  })

  function clientWith(secret: string): RunnerClient {
    const endpoint = { kind: 'tcp', host: container.getHost(), port: container.getMappedPort(8000) } as const
    return createRunnerClient({ module: 'shout', endpoint, token: secret, foreign: true })
  }

  it('tells its health without a token', async () => {
    const health = await clientWith('wrong').health(AbortSignal.timeout(10_000))
    expect(['idle', 'ready']).toContain(health.state)
  })

  it('refuses a wrong token, which the client tells apart', async () => {
    const stranger = clientWith('wrong')
    await expect(stranger.load({ shout: {} }, AbortSignal.timeout(10_000))).rejects.toMatchObject({
      code: 'RUNNER_PROTOCOL',
    })
    stranger.close()
  })

  it('loads, offloads, and leaves out what is not loaded', async () => {
    const signal = AbortSignal.timeout(10_000)
    expect(await client.load({ shout: {} }, signal)).toEqual(['shout'])
    expect((await client.health(signal)).models).toEqual(['shout'])
    expect(await client.offload(['shout', 'another'], signal)).toEqual(['shout'])
  })

  it('streams frames, which reach us in the exact form of the protocol', async () => {
    let text = ''
    const ending = await new Promise((resolve, reject) => {
      const body = JSON.stringify({ model: 'shout', config: {}, parameters: { say: 'ahoy there' } })
      client.infer(
        body,
        'request-1',
        { firstChunkMs: 10_000, betweenChunksMs: 10_000 },
        {
          onData(bytes) {
            text += bytes.toString()
            return true
          },
          onEnd: resolve,
          onError: reject,
        },
      )
    })
    expect(ending).toEqual({ kind: 'done' })
    const chunk = (word: string) => `{"chunk":{"response":{"text":"${word}"},"warnings":[],"errors":[]}}\n`
    expect(text).toBe(`${chunk('AHOY')}${chunk('THERE')}{"done":true}\n`)
  })
})
