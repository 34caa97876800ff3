import { createProcessEngine } from '../../orchestrator/engines/process/process-engine.ts'
import { type EngineModule, engineSpec } from './engine-spec.ts'

/**
 * A process that owns an embedded engine, for tests that kill it: `engine-owner.ts <instance> <data> <module>`. Says
 * `started` once the module runs, and each line of its installer; then waits to be killed.
 */
const [instance, dataDirectory, module] = process.argv.slice(2)
if (instance === undefined || dataDirectory === undefined || module === undefined) throw new Error('three arguments')

const repositoryRoot = new URL('../..', import.meta.url).pathname
const engine = createProcessEngine({ instance, dataDirectory, repositoryRoot, env: process.env })
const signal = AbortSignal.timeout(300_000)
await engine.connect(signal)
const spec = engineSpec(instance, { module: module as EngineModule })
await engine.prepare(spec, signal, ({ line }) => {
  if (line !== undefined) console.log(line)
})
await engine.start(spec, signal)
console.log('started')
setInterval(() => undefined, 60_000)
