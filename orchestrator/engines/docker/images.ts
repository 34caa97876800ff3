import { BerthError } from '../../domain/errors.ts'
import type { PrepareProgress } from '../engine.ts'
import { SharedWork } from '../shared-work.ts'
import type { BuildAnswers } from './buildkit/session.ts'
import { caBundle } from './ca-bundle.ts'
import type { BuildOrder, Daemon, ImageState, PullEvent } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import { jsonLines } from './json-lines.ts'
import { allRegistryAuths, registryAuth, registryOf } from './registry-auth.ts'

/** What matters of an image. */
export interface ImageFacts {
  readonly id: string
  readonly labels: Readonly<Record<string, string>>
  readonly architecture: string
  /** `USER` as the image says it; empty: root. */
  readonly user: string
}

export type Report = (progress: PrepareProgress) => void
type Variables = Readonly<Record<string, string | undefined>>

/** Images are pulled or built once, however many ask; what is local already is never pulled again. */
export class Images {
  readonly #daemon: Daemon
  readonly #env: Variables
  readonly #making = new SharedWork<PrepareProgress, ImageFacts>()

  /** `env`: where the registry logins are, and proxies, package indexes and certificates for builds. */
  constructor(daemon: Daemon, env: Variables) {
    this.#daemon = daemon
    this.#env = env
  }

  /** Undefined when it is not on the daemon. Rejects with IMAGE_UNAVAILABLE when it is for another machine. */
  async find(reference: string, signal: AbortSignal): Promise<ImageFacts | undefined> {
    if (!isReference(reference))
      throw unavailable(reference, 'that is no name of an image', 'correct the name of the image')
    try {
      return this.#facts(reference, await this.#daemon.inspectImage(reference, signal))
    } catch (error) {
      if (isRefusal(error, 404)) return undefined
      if (isRefusal(error, 400)) throw unavailable(reference, error.message, 'correct the name of the image', error)
      throw error
    }
  }

  /** The image, pulled when it is not there. Rejects with IMAGE_UNAVAILABLE. */
  async ensure(
    reference: string,
    signal: AbortSignal,
    report: Report,
  ): Promise<{ image: ImageFacts; cached: boolean }> {
    const found = await this.find(reference, signal)
    if (found !== undefined) return { image: found, cached: true }
    const image = await this.#making.run(`pull ${reference}`, signal, report, (cancelled, tell) =>
      this.#pull(reference, cancelled, tell),
    )
    return { image, cached: false }
  }

  /** The image of a tag that names its content, built when it is not there. Rejects with IMAGE_UNAVAILABLE. */
  async ensureBuilt(
    tag: string,
    order: () => Omit<BuildOrder, 'tag' | 'registries' | 'buildargs'>,
    signal: AbortSignal,
    report: Report,
  ): Promise<{ image: ImageFacts; cached: boolean }> {
    const found = await this.find(tag, signal)
    if (found !== undefined) return { image: found, cached: true }
    const image = await this.#making.run(`build ${tag}`, signal, report, (cancelled, tell) =>
      this.#build(tag, order, cancelled, tell),
    )
    return { image, cached: false }
  }

  /** Removes images that were built with these labels and that nothing uses. */
  async forget(marks: readonly string[]): Promise<void> {
    for (const id of new Set(await this.#daemon.imagesWith(marks))) {
      await this.#daemon.removeImage(id).catch((error: unknown) => {
        if (!isRefusal(error)) throw error
      })
    }
  }

  /** Ends pulls and builds under way. */
  async close(): Promise<void> {
    await this.#making.close(new BerthError('SHUTTING_DOWN', 'Berth is shutting down'))
  }

  async #pull(reference: string, signal: AbortSignal, report: Report): Promise<ImageFacts> {
    const { name, tag } = splitReference(reference)
    report({ phase: 'image', message: `pulls ${reference}` })
    try {
      const auth = await registryAuth(registryOf(reference), this.#env)
      const stream = await this.#daemon.pull(name, tag, auth, signal)
      const layers = new PullProgress(reference, report)
      for await (const event of jsonLines(stream)) {
        if (typeof event.error === 'string') throw unavailable(reference, event.error, pullRemedy(event.error))
        layers.note(event)
      }
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (isRefusal(error)) throw unavailable(reference, error.message, pullRemedy(error.message), error)
      throw error
    }
    const image = await this.find(reference, signal)
    if (image === undefined) throw unavailable(reference, 'the pull ended without it', 'pull it by hand to see why')
    return image
  }

  async #build(
    tag: string,
    order: () => Omit<BuildOrder, 'tag' | 'registries' | 'buildargs'>,
    signal: AbortSignal,
    report: Report,
  ): Promise<ImageFacts> {
    report({ phase: 'image', message: `builds ${tag}` })
    const lines: string[] = []
    const onLine = (line: string): void => {
      lines.push(line)
      if (lines.length > 40) lines.shift()
      report({ phase: 'image', message: line, line })
    }
    try {
      const registries = await allRegistryAuths(this.#env)
      const whole = { ...order(), tag, registries, buildargs: buildArguments(this.#env) }
      // With its libraries only where something is built.
      const { buildImage } = await import('./buildkit/build.ts')
      await buildImage(this.#daemon, whole, await this.#answers(), onLine, signal)
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (!isRefusal(error)) throw error
      const remedy = "correct the Dockerfile; the lines of the build are in the module's log"
      throw unavailable(tag, error.message, remedy, error, { lines })
    }
    const image = await this.find(tag, signal)
    if (image === undefined) throw unavailable(tag, 'the build ended without it', 'build it by hand to see why')
    return image
  }

  /** Logins are looked up when a Dockerfile names their registry. */
  async #answers(): Promise<BuildAnswers> {
    const bundle = await caBundle(this.#env)
    return {
      credentials: (host) => registryAuth(host === 'registry-1.docker.io' ? 'docker.io' : host, this.#env),
      secrets: bundle === undefined ? {} : { ca_bundle: bundle },
    }
  }

  #facts(reference: string, state: ImageState): ImageFacts {
    const { architecture } = this.#daemon.version
    if (
      state.Architecture !== '' &&
      (state.Architecture !== architecture || (state.Os !== '' && state.Os !== 'linux'))
    ) {
      throw unavailable(
        reference,
        `it is for ${state.Os}/${state.Architecture}, and this machine is linux/${architecture}`,
        `use an image that has linux/${architecture}, or remove the local one (\`docker rmi ${reference}\`) and pull it for this machine`,
      )
    }
    return {
      id: state.Id,
      labels: state.Config?.Labels ?? {},
      architecture: state.Architecture,
      user: state.Config?.User ?? '',
    }
  }
}

/** Bytes over all layers, told a few times a second. */
class PullProgress {
  readonly #reference: string
  readonly #report: Report
  readonly #layers = new Map<string, { current: number; total: number }>()
  #toldAt = 0

  constructor(reference: string, report: Report) {
    this.#reference = reference
    this.#report = report
  }

  note(event: PullEvent): void {
    const { id, status, progressDetail } = event
    if (id === undefined || status === undefined) return
    const layer = this.#layers.get(id)
    if (status === 'Downloading' && progressDetail?.total !== undefined) {
      this.#layers.set(id, { current: progressDetail.current ?? 0, total: progressDetail.total })
    } else if (layer !== undefined && status !== 'Downloading') {
      layer.current = layer.total
    } else return
    const now = Date.now()
    if (now - this.#toldAt < 250) return
    this.#toldAt = now
    let current = 0
    let total = 0
    for (const each of this.#layers.values()) {
      current += each.current
      total += each.total
    }
    this.#report({ phase: 'image', message: `pulls ${this.#reference}`, current, total })
  }
}

/** Nothing that could lead to another path of the API; the daemon checks the rest. */
function isReference(text: string): boolean {
  return (
    /^[A-Za-z0-9][\w.:@/-]*$/.test(text) &&
    !text.split('/').some((part) => part === '' || part === '.' || part === '..')
  )
}

/** Without a tag the daemon would pull every tag there is. */
export function splitReference(reference: string): { readonly name: string; readonly tag: string } {
  const digest = reference.indexOf('@')
  if (digest >= 0) return { name: reference.slice(0, digest), tag: reference.slice(digest + 1) }
  const colon = reference.lastIndexOf(':')
  if (colon > reference.lastIndexOf('/')) return { name: reference.slice(0, colon), tag: reference.slice(colon + 1) }
  return { name: reference, tag: 'latest' }
}

function pullRemedy(words: string): string {
  if (/denied|unauthorized|authentication|no basic auth/i.test(words)) {
    return 'check the name, and log in to the registry with `docker login` if it is private'
  }
  if (/no matching manifest/i.test(words)) return 'use an image that is published for this machine'
  if (/no space left/i.test(words)) return 'free space, for example with `docker system prune`'
  if (/not found|manifest unknown|does not exist|invalid reference/i.test(words)) return 'correct the name or the tag'
  return 'see that the registry is in reach, or load the image by hand (`docker load`)'
}

function unavailable(image: string, words: string, remedy: string, cause?: unknown, more: object = {}): BerthError {
  return new BerthError(
    'IMAGE_UNAVAILABLE',
    `Image ${image} can't be used: ${words}`,
    { image, daemon: words, remedy, ...more },
    { cause },
  )
}

/** For Dockerfiles that declare them (`ARG PIP_INDEX_URL`). */
const indexArguments = ['PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'npm_config_registry']

/** Proxies, which every Dockerfile knows, and package indexes. Arguments do not become part of the image's environment. */
function buildArguments(env: Variables): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of indexArguments) {
    const value = env[name] || env[name.toUpperCase()]
    if (value !== undefined && value !== '') found[name] = value
  }
  for (const name of ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY']) {
    for (const each of [name, name.toLowerCase()]) {
      const value = env[each]
      if (value !== undefined && value !== '') found[each] = value
    }
  }
  return found
}
