import { allModels, type Fault } from './fault.ts'

/** What happens to the orchestrator itself; something starts it again, as a service manager would. */
const pauseMs = { least: 0, most: 1_000 }
const both = ['docker', 'process'] as const

export const orchestratorFaults: readonly Fault[] = [
  {
    name: 'orchestrator kill -9',
    about: 'SIGKILL to the orchestrator, and a new start',
    engines: both,
    weight: 4,
    resource: 'orchestrator',
    async run(world, random, struck) {
      struck(1, allModels)
      await world.restart('SIGKILL', random.int(pauseMs.least, pauseMs.most))
    },
  },
  {
    name: 'orchestrator SIGTERM',
    about: 'the orchestrator is asked to end, and started again',
    engines: both,
    weight: 1,
    resource: 'orchestrator',
    async run(world, random, struck) {
      struck(1, allModels)
      const { exitCode } = await world.restart('SIGTERM', random.int(pauseMs.least, pauseMs.most))
      if (exitCode !== 0) throw new Error(`after SIGTERM the orchestrator ended with ${exitCode}`)
    },
  },
]
