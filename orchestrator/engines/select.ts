import { BerthError } from '../domain/errors.ts'

/** Which engine runs the modules: `engine: auto` takes Docker when its daemon answers, else the embedded one. */
export type EngineChoice = 'auto' | 'docker' | 'swarm' | 'kubernetes' | 'process'

/** What was found where an engine was looked for. */
export type ProbeResult =
  | { readonly kind: 'answers'; readonly description: string }
  /** Nothing there: not installed, not running. */
  | { readonly kind: 'absent'; readonly reason: string }
  /** There, and this user may not use it. */
  | { readonly kind: 'denied'; readonly reason: string; readonly remedy: string }
  /** There, and it does not answer as it should. */
  | { readonly kind: 'broken'; readonly reason: string }

export interface EngineDecision {
  readonly engine: 'docker' | 'process'
  /** One sentence for the log and `berth doctor`: which, and why. */
  readonly why: string
  /** Set where the user probably wanted something else. */
  readonly warning?: string
}

/** Pure: `docker` is the result of having asked the Docker daemon; it is not looked at for `process`. */
export function selectEngine(choice: EngineChoice, docker: ProbeResult): EngineDecision {
  switch (choice) {
    case 'process':
      return { engine: 'process', why: 'The embedded engine runs the modules, as `engine: process` says.' }
    case 'docker':
      return { engine: 'docker', why: 'Docker runs the modules, as `engine: docker` says.' }
    case 'auto':
      return automatic(docker)
    default:
      throw new BerthError('CONFIG_INVALID', `This version of Berth can't run modules on ${choice}`, {
        field: 'engine',
        remedy: 'set `engine` to auto, docker or process',
      })
  }
}

function automatic(docker: ProbeResult): EngineDecision {
  if (docker.kind === 'answers') {
    return { engine: 'docker', why: `Docker runs the modules, because its daemon answers (${docker.description}).` }
  }
  const why = `The embedded engine runs the modules, because ${docker.reason}.`
  if (docker.kind === 'absent') return { engine: 'process', why }
  const remedy = docker.kind === 'denied' ? docker.remedy : 'repair the daemon, or set `engine: process`'
  return {
    engine: 'process',
    why,
    warning: `Docker is there and was not used: ${docker.reason}. To use it: ${remedy}.`,
  }
}
