import {
  createDockerEngine,
  type DockerEngine,
  type DockerEngineOptions,
} from '../../../orchestrator/engines/docker/docker-engine.ts'
import type { Endpoint, Workload } from '../../../orchestrator/engines/engine.ts'
import type { WorkloadSpec } from '../../../orchestrator/engines/workload-spec.ts'
import { docker, removeInstances, testInstance } from '../../support/docker-cleanup.ts'
import { testRunnerImage } from '../../support/docker-images.ts'
import { callEndpoint } from '../../support/endpoint-client.ts'
import { engineSpec, type SpecOverrides } from '../../support/engine-spec.ts'

/** A Docker engine with the stand-in runner of test/testdata/docker, on the real daemon, and a look into its containers. */
export interface DockerHarness {
  readonly instance: string
  readonly engine: DockerEngine
  /** Another engine object of the same instance, as after a restart of the orchestrator. */
  open(overrides?: Partial<DockerEngineOptions>): Promise<DockerEngine>
  spec(overrides?: SpecOverrides): WorkloadSpec
  /** Prepares, starts, and waits until it answers. */
  start(overrides?: SpecOverrides): Promise<Workload & { readonly spec: WorkloadSpec }>
  dispose(): Promise<void>
}

export const soon = (): AbortSignal => AbortSignal.timeout(100_000)
export const ignore = (): void => undefined
export const patience = { timeout: 60_000, interval: 50 }

export async function dockerHarness(overrides: Partial<DockerEngineOptions> = {}): Promise<DockerHarness> {
  const instance = testInstance()
  const runnerImage = await testRunnerImage()
  const repositoryRoot = process.cwd()
  const opened: DockerEngine[] = []
  const open = async (more: Partial<DockerEngineOptions> = {}): Promise<DockerEngine> => {
    const engine = createDockerEngine({
      instance,
      repositoryRoot,
      runnerImage,
      env: process.env,
      ...overrides,
      ...more,
    })
    opened.push(engine)
    await engine.connect(soon())
    return engine
  }
  const engine = await open()
  const spec = (wanted: SpecOverrides = {}): WorkloadSpec => engineSpec(instance, wanted)
  return {
    instance,
    engine,
    open,
    spec,
    async start(wanted) {
      const made = spec(wanted)
      await engine.prepare(made, soon(), ignore)
      const workload = await engine.start(made, soon())
      await untilHealthy(workload.endpoint)
      return { ...workload, spec: made }
    },
    async dispose() {
      await Promise.all(opened.map((each) => each.close()))
      await removeInstances((each) => each === instance)
    },
  }
}

export async function untilHealthy(endpoint: Endpoint): Promise<void> {
  const { vi } = await import('vitest')
  await vi.waitFor(async () => {
    const { status } = await callEndpoint(endpoint, { path: '/health', timeoutMs: 5_000 })
    if (status !== 200) throw new Error(`the runner answers ${status}`)
  }, patience)
}

/** What JavaScript gives inside a workload: the body of an async function that has `require`. */
export async function inside(endpoint: Endpoint, body: string): Promise<unknown> {
  if (endpoint.kind !== 'tcp') throw new Error('a container answers on TCP')
  const { host, port } = endpoint
  const answer = await fetch(`http://${host}:${port}/run`, { method: 'POST', body, signal: soon() })
  const value: unknown = await answer.json()
  if (!answer.ok) throw new Error(JSON.stringify(value))
  return value
}

export async function inspect(container: string): Promise<ContainerView> {
  const [view] = JSON.parse(await docker('inspect', container)) as readonly ContainerView[]
  if (view === undefined) throw new Error(`docker inspect ${container} says nothing`)
  return view
}

/** The fields of `docker inspect` that the tests look at. */
export interface ContainerView {
  readonly Id: string
  readonly Config: {
    readonly User: string
    readonly Labels: Readonly<Record<string, string>>
    readonly Env: readonly string[]
  }
  readonly HostConfig: Readonly<Record<string, unknown>>
  readonly State: { readonly Status: string }
  readonly Mounts: readonly { readonly Name: string; readonly Destination: string; readonly RW: boolean }[]
}
