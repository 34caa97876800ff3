import { afterAll, describe, expect, it } from 'vitest'
import { textOf } from '../support/answers.ts'
import { dockerAvailable } from '../support/docker.ts'
import { removeInstances, testInstance } from '../support/docker-cleanup.ts'
import { containersOf } from '../support/leftovers.ts'
import { startBerth, type TestBerth } from '../support/orchestrator.ts'

/** Two orchestrators on one Docker daemon. */
const modules = {
  hello: {
    'service.py': `
def SERVICE_LOAD_MODELS(Models):
    pass

def SERVICE_OFFLOAD_MODELS(Names):
    pass

def SERVICE_INFERENCE(Name, UserConfig, UserParameters):
    yield {"text": "hello"}
`,
  },
}

describe.skipIf(!dockerAvailable)('two orchestrators on one daemon', () => {
  const instance = testInstance()
  const env = { BERTH_INSTANCE: instance }
  const running: TestBerth[] = []
  afterAll(async () => {
    await Promise.all(running.map((berth) => berth.close()))
    await removeInstances((each) => each === instance)
  })

  async function start(more: Readonly<Record<string, string>> = {}): Promise<TestBerth> {
    const berth = await startBerth({ engine: 'docker', modules, env: more })
    running.push(berth)
    return berth
  }

  it('of one name: the second is refused as it starts, by name, and the first goes on with what it has', async () => {
    const first = await start(env)
    expect(textOf(await first.infer('hello'))).toBe('hello')
    const before = containersOf(instance)
    expect(before).toHaveLength(1)

    const refused = await start(env).catch((error: unknown) => error)
    expect(String(refused)).toContain('the orchestrator ended')
    expect(String(refused)).toContain(
      `The instance ${instance} is another Berth's on this Docker (process ${first.process.pid}`,
    )
    expect(containersOf(instance)).toEqual(before)
    expect(textOf(await first.infer('hello'))).toBe('hello')

    // A third with a name of its own does not see them, nor they it.
    const apart = await start()
    expect((await apart.module('hello')).replicas).toEqual([])
    expect(textOf(await apart.infer('hello'))).toBe('hello')
    expect(containersOf(apart.instance())).toHaveLength(1)
    expect(containersOf(instance)).toEqual(before)

    // Once the first is dead, however it died, its name is free.
    await first.kill()
    const next = await start(env)
    expect(textOf(await next.infer('hello'))).toBe('hello')
    expect(containersOf(instance)).toHaveLength(1)
  })
})
