import type { EngineCapabilities, GpuDevice, Weakness } from '../engine.ts'
import type { Daemon, DaemonInfo } from './daemon.ts'
import type { Reach } from './reach.ts'

/** What this daemon can do, and where its confinement of modules has holes: data, for the security score and for people. */
export function dockerCapabilities(
  daemon: Pick<Daemon, 'address' | 'version' | 'speaks'>,
  info: DaemonInfo,
  reach: Reach,
  gpus: readonly GpuDevice[],
): EngineCapabilities {
  const { engine, api } = daemon.version
  return {
    isolation: 'container',
    adopts: true,
    images: true,
    networkPolicy: reach.kind !== 'publish',
    gpus,
    memoryBytes: Number(info.MemTotal) || Number.POSITIVE_INFINITY,
    description: `Docker ${engine} (API ${api}) at ${daemon.address}`,
    weaknesses: [...ofReach(daemon, reach), ...ofDaemon(info, engine), sharedCaches],
  }
}

/** What the design shares for the sake of speed and of disk space. */
const sharedCaches: Weakness = {
  points: 5,
  finding:
    'Modules share one cache of downloaded models, and installers one download cache: what one module puts there, another may run.',
}

function ofReach(daemon: Pick<Daemon, 'speaks'>, reach: Reach): readonly Weakness[] {
  if (reach.kind === 'publish') {
    const where = reach.host === '127.0.0.1' ? 'a loopback port' : `port(s) of ${reach.bind}`
    return [
      {
        points: 25,
        finding: `Container addresses can't be reached from here, so modules answer at ${where}, on networks with a way out: \`network: none\` is not enforced.`,
      },
    ]
  }
  if (reach.kind === 'join' && daemon.speaks('1.48')) return []
  const remedy =
    reach.kind === 'join' ? 'Docker 28 closes it' : 'Docker 28 with Berth in a container (compose) closes it'
  return [
    {
      points: 5,
      finding: `Services of the host that listen on all addresses stay in reach of modules, at their network's gateway address (${remedy}).`,
    },
  ]
}

function ofDaemon(info: DaemonInfo, engine: string): readonly Weakness[] {
  const found: Weakness[] = []
  const options = (Array.isArray(info.SecurityOptions) ? info.SecurityOptions : []).map(String)
  const seccomp = options.find((option) => option.startsWith('name=seccomp'))
  if (seccomp === undefined || seccomp.includes('unconfined')) {
    found.push({ points: 20, finding: 'The daemon applies no seccomp profile: modules may use every system call.' })
  }
  if (info.MemoryLimit === false) found.push({ points: 5, finding: 'The kernel does not enforce memory limits.' })
  if (info.PidsLimit === false) found.push({ points: 5, finding: 'The kernel does not limit the number of processes.' })
  if (resolvesOutside(engine)) {
    found.push({
      points: 5,
      finding:
        'This version of Docker answers DNS questions about the outside on networks without a way out; update it.',
    })
  }
  return found
}

/** CVE-2024-29018, fixed in 23.0.11, 25.0.5 and 26.0. */
function resolvesOutside(engine: string): boolean {
  const [major = 0, minor = 0, patch = 0] = engine.split('.').map((part) => Number.parseInt(part, 10) || 0)
  if (major === 0 || major >= 26) return false
  if (major === 25) return minor === 0 && patch < 5
  if (major === 23) return minor === 0 && patch < 11
  return true
}
