import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { InferRequest } from '../../module-runner/protocol.ts'
import type { WorkloadSpec } from '../../orchestrator/engines/workload-spec.ts'
import { engineSpec } from '../support/engine-spec.ts'
import type { ModuleYield } from '../support/fake-runner.ts'
import { MemoryEngine, MemoryWorld, type ModuleScript } from '../support/memory-engine.ts'
import { type EngineHarness, engineContract } from './engine.ts'

engineContract('memory', makeHarness)

async function makeHarness(): Promise<EngineHarness> {
  const tokens = new Map<string, string>()
  const kept = new Map<string, string>()
  const world: MemoryWorld = new MemoryWorld((spec) =>
    moduleScript(spec, tokens, kept, () => world.forgotten.splice(0)),
  )
  const instance = randomUUID()
  const connect = async (of: string): Promise<MemoryEngine> => {
    const engine = new MemoryEngine({ instance: of, world })
    await engine.connect(AbortSignal.timeout(1_000))
    return engine
  }
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
      const other = randomUUID()
      return { engine: await connect(other), spec: (overrides) => engineSpec(other, overrides) }
    },
    kill: (id, signal) => world.end(id, signal === 'SIGTERM' ? { code: 0 } : { signal }),
    runForeign: ({ labels, token }) =>
      world.runForeign({ container: 'theirs', labels: { 'dev.berth.protocol': '1', ...labels }, token }),
    endForeign: (id, how) => (how === 'ended' ? world.endForeign(id) : world.removeForeign(id)),
    dispose: () => world.dispose(),
  }
}

/** What the modules of test/testdata/engine do, as scripts. */
function moduleScript(
  spec: WorkloadSpec,
  tokens: Map<string, string>,
  kept: Map<string, string>,
  takeForgotten: () => string[],
): ModuleScript {
  const environment = spec.requirements.hash
  async function* infer(request: InferRequest, signal: AbortSignal): AsyncIterable<ModuleYield> {
    const { parameters } = request
    const say = String(parameters.say ?? '')
    if (spec.module === 'installed') yield { text: tokens.get(environment) ?? 'not installed' }
    else if (parameters.do === 'environment') yield { extra: { environment: spec.env } }
    else if (parameters.do === 'keep') {
      for (const module of takeForgotten()) kept.delete(`${spec.instance}/${module}`)
      const text = (kept.get(`${spec.instance}/${spec.module}`) ?? '') + say
      kept.set(`${spec.instance}/${spec.module}`, text)
      yield { text }
    } else if (parameters.do === 'endless') {
      while (!signal.aborted) {
        yield { text: '.' }
        await delay(5)
      }
    } else yield { text: say }
  }
  return {
    async install(line, signal) {
      if (spec.module === 'uninstallable') {
        line('./wheels/berth_absent-1.0-py3-none-any.whl: no such file')
        throw new Error('exit code 1')
      }
      if (spec.module === 'slow-install') {
        line('probe install waits')
        await new Promise((resolve) => signal.addEventListener('abort', resolve))
      }
      const token = randomUUID().replaceAll('-', '')
      line(`probe install ${token}`)
      tokens.set(environment, token)
    },
    runner: (log) => ({
      infer,
      async load() {
        for (const step of [1, 2, 3, 4, 5]) log(`probe step ${step}`)
      },
    }),
  }
}
