import { closeSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { allModels, type Fault } from './fault.ts'

/** What happens to the machine below: Docker goes away and comes back, the disk of the data folder is full. */
function daemonFault(name: string, about: string, signal: 'SIGTERM' | 'SIGKILL'): Fault {
  return {
    name,
    about,
    engines: ['docker'],
    weight: 0.4,
    resource: 'daemon',
    possible: ({ daemon }) => daemon !== undefined,
    async run({ daemon, outages }, random, struck) {
      if (!daemon) return
      const back = outages.begin('daemon')
      try {
        struck(1, allModels)
        await daemon.stop(signal)
        await delay(random.int(0, 3_000))
        await daemon.start()
      } finally {
        back()
      }
    },
  }
}

const diskFull: Fault = {
  name: 'disk full',
  about: 'the disk of the data folder is full for a while',
  engines: ['docker', 'process'],
  weight: 0.7,
  resource: 'disk',
  possible: ({ disk }) => disk !== undefined,
  async run({ disk, outages }, random, struck) {
    if (!disk) return
    const ballast = join(disk.folder, 'ballast')
    const freed = outages.begin('disk')
    try {
      fill(ballast)
      struck(0, [])
      await delay(random.int(1_000, 6_000))
    } finally {
      rmSync(ballast, { force: true })
      freed()
    }
  },
}

/** Writes until there is no room for one byte more. */
function fill(path: string): void {
  const file = openSync(path, 'w')
  try {
    for (let size = 1024 * 1024; size >= 1; ) {
      try {
        writeSync(file, Buffer.alloc(size))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
        size = Math.floor(size / 16)
      }
    }
  } finally {
    closeSync(file)
  }
}

export const machineFaults: readonly Fault[] = [
  daemonFault('dockerd SIGTERM', 'the Docker daemon is stopped and started', 'SIGTERM'),
  daemonFault('dockerd kill -9', 'SIGKILL to the Docker daemon, and a new start', 'SIGKILL'),
  diskFull,
]
