// An orchestrator's engine in a container beside its modules, as with compose: starts one, asks it, and tells what it saw.
import { createDockerEngine } from '../../../orchestrator/engines/docker/docker-engine.ts'
import { engineSpec } from '../../support/engine-spec.ts'

const [instance = '', runnerImage = '', network = 'none'] = process.argv.slice(2)
const soon = (): AbortSignal => AbortSignal.timeout(60_000)
const engine = createDockerEngine({ instance, runnerImage, repositoryRoot: process.cwd(), env: process.env })
await engine.connect(soon())
const spec = engineSpec(instance, { network: network === 'egress' ? 'egress' : 'none' })
await engine.prepare(spec, soon(), () => undefined)
const { id, endpoint } = await engine.start(spec, soon())
if (endpoint.kind !== 'tcp') throw new Error('a container answers on TCP')
const address = `http://${endpoint.host}:${endpoint.port}`

async function health(): Promise<number> {
  for (;;) {
    try {
      return (await fetch(`${address}/health`, { signal: soon() })).status
    } catch (error) {
      if (Date.now() - began > 30_000) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}
const began = Date.now()
const status = await health()
const later = createDockerEngine({ instance, runnerImage, repositoryRoot: process.cwd(), env: process.env })
await later.connect(soon())
const adopted = (await later.list())[0]?.endpoint
await later.stop(id, { graceMs: 0 })
await later.forget(spec.module, { data: true })
await Promise.all([engine.close(), later.close()])
console.log(JSON.stringify({ status, endpoint, adopted, networkPolicy: engine.capabilities.networkPolicy }))
