// An orchestrator's engine that takes an instance and keeps it until its input ends: says `holds`, or why it may not.
import { createDockerEngine } from '../../../orchestrator/engines/docker/docker-engine.ts'

const [instance = '', folder = ''] = process.argv.slice(2)
const options = { instance, folder, runnerImage: 'berth-test/none', repositoryRoot: process.cwd(), env: process.env }
const engine = createDockerEngine(options)
try {
  await engine.connect(AbortSignal.timeout(60_000))
  console.log('holds')
} catch (error) {
  console.log(`refused: ${error instanceof Error ? error.message : String(error)}`)
}
for await (const _ of process.stdin);
await engine.close()
console.log('gave it back')
