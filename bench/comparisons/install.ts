import { execFile } from 'node:child_process'
import { appendFile, glob, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Berth, benchModule, startBerth } from '../berth.ts'
import { type BenchOptions, type Comparison, Missing, type Row } from '../comparison.ts'
import { findProgram, until } from '../programs.ts'
import { inTurns, median } from '../statistics.ts'

/**
 * The environments of an example module and of all example modules together, installed by Berth and by hand, both from a warm
 * download cache. What Berth adds does not grow with the packages, so a small environment shows it and a common one weighs it.
 */
const run = promisify(execFile)
const example = 'file-type'
const folders: Readonly<Record<string, string>> = {
  [example]: join(import.meta.dirname, '..', '..', 'modules', example),
  packages: benchModule('packages'),
}

export const install: Comparison = {
  name: 'install',
  about: "an environment's install against uv by hand; a second start without network",
  async run(options) {
    const berth = await startBerth({ engine: 'process', models: { [example]: { module: example } } })
    const folder = await mkdtemp(join(tmpdir(), 'berth-bench-install-'))
    try {
      const rows: Row[] = []
      for (const [module, from] of Object.entries(folders)) {
        options.say(`install: filling the download caches (${module})`)
        await berth.addModule(module, from)
        await untilInstalled(berth, module, 1).catch((error: unknown) => {
          throw new Missing(`the first install did not work; is the package index within reach? ${error}`)
        })
        const uv = await findUv(berth)
        const hand = () => byHand(uv, folder, join(berth.modulesFolder, module, 'requirements.txt'))
        await hand()
        rows.push(await compare(berth, module, hand, options))
      }
      return [...rows, await withoutNetwork(berth)]
    } finally {
      await berth.close()
      await rm(folder, { recursive: true, force: true })
    }
  },
}

async function compare(
  berth: Berth,
  module: string,
  hand: () => Promise<number>,
  { rounds }: BenchOptions,
): Promise<Row> {
  const times = await inTurns({ berth: () => byBerth(berth, module), hand }, rounds)
  return {
    what: `environment install (${module}), warm cache`,
    unit: 's',
    berth: median(times.berth ?? []),
    peer: { name: 'uv venv, uv pip install', value: median(times.hand ?? []) },
    target: { of: 'ratio', at: 'most', bound: 1.1 },
    detail: times,
  }
}

/** As Berth itself measures it: from a changed file of requirements to its environment being there. */
async function byBerth(berth: Berth, module: string): Promise<number> {
  const before = await installs(berth, module)
  // A requirement that never applies: the same packages, under another key.
  const line = `\nnothing-${before.count} ; python_version < "3"\n`
  await appendFile(join(berth.modulesFolder, module, 'requirements.txt'), line)
  await untilInstalled(berth, module, before.count + 1)
  return (await installs(berth, module)).seconds - before.seconds
}

/** With the interpreter named, as Berth does: a version manager's stand-in on the path would cost the peer a tenth. */
async function byHand(uv: string, folder: string, requirements: string): Promise<number> {
  const { stdout } = await run('python3', ['-c', 'import sys; print(sys.executable)'])
  const venv = join(folder, 'venv')
  await rm(venv, { recursive: true, force: true })
  const env = { ...process.env, UV_CACHE_DIR: join(folder, 'cache') }
  const began = performance.now()
  await run(uv, ['venv', '--quiet', '--no-project', '--python', stdout.trim(), venv], { env })
  const python = join(venv, 'bin', 'python')
  await run(uv, ['pip', 'install', '--python', python, '-r', requirements], { env })
  return (performance.now() - began) / 1_000
}

/** The uv on the path, or the one that Berth has fetched. */
async function findUv(berth: Berth): Promise<string> {
  const own = findProgram('uv')
  if (own !== undefined) return own
  for await (const path of glob('tools/uv-*/uv', { cwd: berth.dataFolder })) return join(berth.dataFolder, path)
  throw new Missing('there is no uv, and Berth could not fetch it either')
}

async function withoutNetwork(berth: Berth): Promise<Row> {
  const before = await environments(berth)
  const nowhere = 'http://127.0.0.1:9'
  const names = ['HTTP_PROXY', 'HTTPS_PROXY', 'ALL_PROXY']
  const proxies = names.flatMap((name) => [name, name.toLowerCase()]).map((name) => [name, nowhere])
  await berth.restart({ ...Object.fromEntries(proxies), NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' })
  const text = 'SGVsbG8sIHdvcmxkIQo='
  const content = [{ type: 'file', file: text, name: 'hello' }]
  const answer = await berth.post(`/api/models/${example}/infer`, { conversation: [{ role: 'user', content }] })
  if (!answer.includes('"done":true')) throw new Error(`without network: ${answer}`)
  const now = await environments(berth)
  return {
    what: 'second start, no network: installs',
    unit: '',
    berth: now.filter((one) => !before.includes(one)).length,
    target: { of: 'value', at: 'most', bound: 0 },
  }
}

/** Key and time of making of each. */
async function environments(berth: Berth): Promise<readonly string[]> {
  const { environments: all } = JSON.parse(await berth.get('/api/environments')) as {
    readonly environments: readonly { readonly key: string; readonly createdAt: string }[]
  }
  return all.map(({ key, createdAt }) => `${key} ${createdAt}`)
}

async function untilInstalled(berth: Berth, module: string, count: number): Promise<void> {
  await until('the environment is installed', async () => {
    const now = await installs(berth, module)
    if (now.failed > 0) throw new Error(`the install failed; see ${await readLog(berth, module)}`)
    return now.count >= count
  })
}

async function readLog(berth: Berth, module: string): Promise<string> {
  return (await berth.get(`/api/modules/${module}/logs?tail=20`)).slice(-2_000)
}

interface Installs {
  readonly count: number
  readonly failed: number
  readonly seconds: number
}

async function installs(berth: Berth, module: string): Promise<Installs> {
  const text = await berth.get('/metrics')
  const value = (name: string, outcome = '') =>
    text
      .split('\n')
      .filter((line) => line.startsWith(name) && line.includes(`module="${module}"`) && line.includes(outcome))
      .reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0)
  return {
    count: value('berth_environment_installs_total', 'outcome="ok"'),
    failed: value('berth_environment_installs_total', 'outcome="failed"'),
    seconds: value('berth_environment_install_duration_seconds_sum'),
  }
}
