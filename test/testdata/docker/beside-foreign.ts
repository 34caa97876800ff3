// An orchestrator's engine in a container: tells which containers of somebody else it sees, and what answers there.
import { createDockerEngine } from '../../../orchestrator/engines/docker/docker-engine.ts'

const [instance = '', runnerImage = ''] = process.argv.slice(2)
const engine = createDockerEngine({ instance, runnerImage, repositoryRoot: process.cwd(), env: process.env })
await engine.connect(AbortSignal.timeout(60_000))

async function health(host: string, port: number): Promise<number> {
  for (const began = Date.now(); ; ) {
    try {
      return (await fetch(`http://${host}:${port}/health`, { signal: AbortSignal.timeout(5_000) })).status
    } catch (error) {
      if (Date.now() - began > 30_000) throw error
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }
}

const seen = await Promise.all(
  ((await engine.discover?.()) ?? []).map(async ({ container, endpoint, problem }) => ({
    container,
    ...(endpoint?.kind === 'tcp' ? { status: await health(endpoint.host, endpoint.port) } : {}),
    ...(problem === undefined ? {} : { problem: problem.message }),
  })),
)
await engine.close()
console.log(JSON.stringify(seen))
