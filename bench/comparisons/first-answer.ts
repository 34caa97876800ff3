import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { promisify } from 'node:util'
import { type Berth, benchModule, startBerth } from '../berth.ts'
import { type Comparison, Missing } from '../comparison.ts'
import { answers, freePort, until } from '../programs.ts'
import { inTurns, median } from '../statistics.ts'

/** From `enable` to the first answer of a module on Docker, against `docker run` of the same image, program and mounts. */
const run = promisify(execFile)

export const firstAnswer: Comparison = {
  name: 'first-answer',
  about: 'enable to first answer on Docker, against docker run of the same image to its first 200',
  async run({ rounds, say }) {
    await run('docker', ['version']).catch(() => {
      throw new Missing('no Docker daemon answers')
    })
    say('first-answer: preparing images')
    const instance = `bench-${randomBytes(4).toString('hex')}`
    const berth = await startBerth({
      engine: 'docker',
      models: { noop: { module: 'noop' } },
      env: { BERTH_INSTANCE: instance },
    })
    try {
      await berth.addModule('noop', benchModule('noop'))
      await berth.infer('noop', {})
      const peer = await sameContainer(instance)
      const times = await inTurns({ berth: () => enable(berth), docker: () => dockerRun(peer) }, rounds)
      return [
        {
          what: 'enable to first answer (Docker)',
          unit: 's',
          berth: median(times.berth ?? []),
          peer: { name: 'docker run to its first 200', value: median(times.docker ?? []) },
          target: { of: 'ratio', at: 'most', bound: 1.3 },
          detail: times,
        },
      ]
    } finally {
      await berth.close()
      await removeLeftovers(instance)
    }
  },
}

async function enable(berth: Berth): Promise<number> {
  await berth.post('/api/modules/noop/disable')
  await berth.untilModule('noop', 'it has stopped', (view) => view.replicas.length === 0)
  const began = performance.now()
  await berth.post('/api/modules/noop/enable')
  await berth.infer('noop', {})
  return (performance.now() - began) / 1_000
}

interface Inspected {
  readonly Image: string
  readonly Config: {
    readonly Env: readonly string[]
    readonly Entrypoint: readonly string[] | null
    readonly Cmd: readonly string[]
    readonly User: string
  }
  readonly HostConfig: { readonly Tmpfs?: Readonly<Record<string, string>> }
  readonly Mounts: readonly {
    readonly Type: string
    readonly Name?: string
    readonly Destination: string
    readonly RW: boolean
  }[]
}

/** The arguments of a `docker run` that starts what Berth's own container runs. */
async function sameContainer(instance: string): Promise<readonly string[]> {
  const filter = ['--filter', `label=dev.berth.instance=${instance}`, '--filter', 'label=dev.berth.replica']
  const { stdout: ids } = await run('docker', ['ps', '--quiet', ...filter])
  const { stdout } = await run('docker', ['inspect', ids.trim().split('\n')[0] ?? ''])
  const [seen] = JSON.parse(stdout) as readonly Inspected[]
  if (seen === undefined) throw new Error('the container of the module was not found')
  const [entrypoint, ...first] = seen.Config.Entrypoint ?? []
  return [
    ...seen.Config.Env.flatMap((variable) => ['--env', variable]),
    ...seen.Mounts.flatMap(({ Type, Name, Destination, RW }) =>
      Type === 'volume' && Name !== undefined ? ['--volume', `${Name}:${Destination}${RW ? '' : ':ro'}`] : [],
    ),
    ...Object.entries(seen.HostConfig.Tmpfs ?? {}).flatMap(([path, options]) => ['--tmpfs', `${path}:${options}`]),
    ...(seen.Config.User === '' ? [] : ['--user', seen.Config.User]),
    ...(entrypoint === undefined ? [] : ['--entrypoint', entrypoint]),
    seen.Image,
    ...first,
    ...(seen.Config.Cmd ?? []),
  ]
}

async function dockerRun(args: readonly string[]): Promise<number> {
  const port = await freePort()
  const began = performance.now()
  const { stdout } = await run('docker', ['run', '--detach', '--rm', '--publish', `127.0.0.1:${port}:8000`, ...args])
  try {
    await until('the container answers', () => answers(`http://127.0.0.1:${port}/health`), 5)
    return (performance.now() - began) / 1_000
  } finally {
    await run('docker', ['rm', '--force', stdout.trim()])
  }
}

/** Berth keeps the data of modules, and their networks; this one has none to keep. */
async function removeLeftovers(instance: string): Promise<void> {
  for (const kind of ['volume', 'network']) {
    const { stdout } = await run('docker', [kind, 'ls', '--quiet', '--filter', `label=dev.berth.instance=${instance}`])
    const names = stdout.split('\n').filter((name) => name !== '')
    if (names.length > 0) await run('docker', [kind, 'rm', ...names])
  }
}
