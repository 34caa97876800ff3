import { describe, it } from 'vitest'
import { createDockerEngine, type DockerEngine } from '../../orchestrator/engines/docker/docker-engine.ts'
import { dockerAvailable } from '../support/docker.ts'
import { docker, removeInstances, testInstance } from '../support/docker-cleanup.ts'
import { engineSpec } from '../support/engine-spec.ts'
import { runForeign } from '../support/foreign.ts'
import { type EngineHarness, engineContract } from './engine.ts'

if (dockerAvailable) engineContract('docker', makeHarness)
else describe('docker engine', () => it.skip('needs a Docker daemon'))

/** The real daemon, and Berth's own runner, built from this repository. */
async function makeHarness(): Promise<EngineHarness> {
  const instances: string[] = []
  const opened: DockerEngine[] = []
  const foreign: string[] = []
  const connect = async (instance: string): Promise<DockerEngine> => {
    const engine = createDockerEngine({ instance, repositoryRoot: process.cwd(), env: process.env })
    opened.push(engine)
    await engine.connect(AbortSignal.timeout(60_000))
    return engine
  }
  const fresh = (): string => {
    const instance = testInstance()
    instances.push(instance)
    return instance
  }
  const instance = fresh()
  let engine = await connect(instance)
  return {
    get engine() {
      return engine
    },
    spec: (overrides) => engineSpec(instance, overrides),
    async restartEngine() {
      await engine.close()
      engine = await connect(instance)
    },
    async otherInstance() {
      const other = fresh()
      return { engine: await connect(other), spec: (overrides) => engineSpec(other, overrides) }
    },
    async kill(id, signal) {
      await docker('kill', '--signal', signal, id)
    },
    async runForeign({ labels, token }) {
      const id = await runForeign({ labels: { ...labels, 'dev.berth.test': '1' }, token })
      foreign.push(id)
      return id
    },
    async endForeign(id, how) {
      await (how === 'ended' ? docker('kill', id) : docker('rm', '--force', id))
    },
    async dispose() {
      if (foreign.length > 0) await docker('rm', '--force', ...foreign)
      await Promise.all(opened.map((each) => each.close()))
      await removeInstances((each) => instances.includes(each))
    },
  }
}
