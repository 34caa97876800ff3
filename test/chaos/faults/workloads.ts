import { setTimeout as delay } from 'node:timers/promises'
import type { Program } from '../sight.ts'
import { anyWorkload, type Fault, modelsOf, signalTo } from './fault.ts'

/** What happens to modules: a process or a container is killed, removed, stopped or stands still. */
const both = ['docker', 'process'] as const

function programKill(program: Program, weight: number): Fault {
  return {
    name: `${program} kill -9`,
    about: `SIGKILL to the ${program} of a module`,
    engines: both,
    weight,
    resource: 'kill',
    async run(world, random, struck) {
      const seen = await anyWorkload(world, random)
      const found = seen && (await world.sight.processes(seen, program))
      if (!found || found.length === 0) return
      if (signalTo(random.pick(found).pid, 'SIGKILL')) struck(1, modelsOf(seen))
    },
  }
}

function containerFault(name: string, about: string, weight: number, ...command: readonly string[]): Fault {
  return {
    name,
    about,
    engines: ['docker'],
    weight,
    resource: 'kill',
    async run(world, random, struck) {
      const seen = await anyWorkload(world, random)
      if (!seen) return
      const done = await world.docker(...command, seen.id).then(
        () => true,
        () => false,
      )
      if (done) struck(1, modelsOf(seen))
    },
  }
}

/** Shorter and longer than the limits of a request. */
const stillMs = { least: 300, most: 12_000 }

const pause: Fault = {
  name: 'docker pause',
  about: 'a container stands still for a while',
  engines: ['docker'],
  weight: 2,
  resource: 'pause',
  async run(world, random, struck) {
    const seen = await anyWorkload(world, random)
    const pausedMs = random.int(stillMs.least, stillMs.most)
    if (!seen) return
    const paused = await world.docker('pause', seen.id).catch(() => undefined)
    if (paused === undefined) return
    struck(0, modelsOf(seen))
    await delay(pausedMs)
    // Berth may have replaced it by now.
    await world.docker('unpause', seen.id).catch(() => {})
  },
}

const stop: Fault = {
  name: 'worker SIGSTOP',
  about: 'a worker stands still for a while',
  engines: both,
  weight: 2,
  resource: 'pause',
  async run(world, random, struck) {
    const seen = await anyWorkload(world, random)
    const [worker] = seen ? await world.sight.processes(seen, 'worker') : []
    const stoppedMs = random.int(stillMs.least, stillMs.most)
    if (!seen || !worker || !signalTo(worker.pid, 'SIGSTOP')) return
    struck(0, modelsOf(seen))
    await delay(stoppedMs)
    signalTo(worker.pid, 'SIGCONT')
  },
}

export const workloadFaults: readonly Fault[] = [
  programKill('runner', 4),
  programKill('worker', 4),
  containerFault('docker kill', 'SIGKILL to a container', 4, 'kill'),
  containerFault('docker rm -f', 'a container is removed', 4, 'rm', '--force'),
  containerFault('docker stop', 'a container is stopped by somebody else', 1, 'stop', '--time', '2'),
  pause,
  stop,
]
