import { BerthError } from '../../domain/errors.ts'

/** What the daemon says of itself, and the API version that it and Berth both speak. */
export interface DaemonVersion {
  readonly engine: string
  /** The API version that both sides speak. */
  readonly api: string
  /** As images name it: `amd64`, `arm64`. */
  readonly architecture: string
  /** There is a program that reaps zombies as a container's first process. */
  readonly init: boolean
}

/** The newest API whose shapes are known here, and the oldest that has what Berth needs (Docker 20.10). */
const newestApi = '1.51'
const oldestApi = '1.41'

/** Throws ENGINE_UNAVAILABLE for what is no Docker daemon, and for one that is too old or too new. */
export function readVersion(told: unknown, address: string): DaemonVersion {
  const { ApiVersion, MinAPIVersion, Version, Arch, Components } = told as Record<string, unknown>
  if (typeof ApiVersion !== 'string' || !/^\d+\.\d+$/.test(ApiVersion)) {
    throw new BerthError('ENGINE_UNAVAILABLE', `What answers at ${address} is no Docker daemon`, {
      address,
      remedy: 'correct DOCKER_HOST, or set `engine: process`',
    })
  }
  const api = compareApi(ApiVersion, newestApi) < 0 ? ApiVersion : newestApi
  const tooNew = typeof MinAPIVersion === 'string' && compareApi(MinAPIVersion, api) > 0
  if (compareApi(ApiVersion, oldestApi) < 0 || tooNew) {
    const found = `Docker ${String(Version)} at ${address} speaks API ${ApiVersion}`
    throw new BerthError('ENGINE_UNAVAILABLE', `${found}, Berth ${oldestApi} to ${newestApi}`, {
      address,
      remedy: tooNew ? 'update Berth' : 'use Docker 20.10 or newer',
    })
  }
  return { engine: String(Version), api, architecture: String(Arch), init: hasInit(Components) }
}

/** The daemon names the program in `/info` even where it is not installed; its version tells. */
function hasInit(components: unknown): boolean {
  const all: readonly unknown[] = Array.isArray(components) ? components : []
  return all.some((each) => {
    const { Name, Version } = each as { readonly Name?: unknown; readonly Version?: unknown }
    return Name === 'docker-init' && typeof Version === 'string' && /^\d/.test(Version)
  })
}

export function compareApi(a: string, b: string): number {
  const [majorA = 0, minorA = 0] = a.split('.').map(Number)
  const [majorB = 0, minorB = 0] = b.split('.').map(Number)
  return majorA - majorB || minorA - minorB
}
