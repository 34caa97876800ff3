import { readFile, rm } from 'node:fs/promises'
import { delimiter, dirname, extname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { EnvironmentMarker, InstallOrder } from '../../protocol.ts'
import type { LogSink } from '../log-output.ts'
import { diskFull, diskFullMessage, InstallError } from './failure.ts'
import { hasNoRoom } from './folder.ts'
import type { Outcome, Programs } from './program.ts'
import { progressOf } from './progress.ts'
import type { Python } from './python.ts'

/**
 * Makes the environment and installs the module's requirements into it: with uv where there is one, with pip where uv
 * can't. The working directory is the module's folder, so that relative paths in requirements mean its files.
 */
export interface EnvironmentOptions {
  readonly order: InstallOrder
  readonly python: Python
  readonly uv: string | undefined
  readonly env: Readonly<Record<string, string>>
  readonly programs: Programs
  readonly log: LogSink
}

/** The environment proper, in the order's folder. */
export const interpreter = 'venv/bin/python'

const runRequirements = fileURLToPath(new URL('../../python/berth_worker/run_requirements.py', import.meta.url))
/** Packages that are PyTorch or bring it: without a GPU its builds for the CPU do, a tenth of the size. */
const torch = /\b(torch|torchvision|torchaudio|sentence[-_]transformers|accelerate|timm|ultralytics)\b/i

/** Answers with what installed it. Rejects with InstallError. */
export async function installEnvironment(options: EnvironmentOptions): Promise<EnvironmentMarker['installer']> {
  const { order } = options
  await makeEnvironment(options)
  const file = order.file
  let installer: EnvironmentMarker['installer'] = 'none'
  if (file !== undefined && extname(file) === '.py') {
    await runModuleRequirements(options, file)
    installer = options.uv === undefined ? 'pip' : 'uv'
  }
  const specifiers = [...(file !== undefined && extname(file) !== '.py' ? ['-r', file] : []), ...order.extra]
  return specifiers.length === 0 ? installer : installPackages(options, specifiers)
}

/** A `requirements.py` may call pip itself, so its environment has one. */
async function makeEnvironment(options: EnvironmentOptions): Promise<void> {
  const { order, python, uv } = options
  const folder = join(order.folder, 'venv')
  const base = order.basePackages === true ? ['--system-site-packages'] : []
  if (uv === undefined) {
    const made = await run(options, [python.path, '-m', 'venv', ...base, folder])
    if (made.ok) return
    // Python's own program does not say that the disk was full.
    if (await hasNoRoom(order.folder)) throw new InstallError(diskFullMessage, made.lines)
    throw failed(
      `${python.path} can't make an environment; where Debian's Python is used, install python3-venv, or uv`,
      made,
    )
  }
  const venv = [uv, 'venv', '--quiet', '--no-project', '--python', python.path, ...base, folder]
  const withPip = order.file !== undefined && extname(order.file) === '.py'
  if (withPip && (await run(options, [...venv, '--seed'])).ok) return
  // Without pip rather than not at all: the index may be out of reach, and nothing may be asked of it.
  await rm(folder, { recursive: true, force: true })
  const made = await run(options, venv)
  if (!made.ok) throw failed(`uv can't make an environment with ${python.path}`, made)
}

async function runModuleRequirements(options: EnvironmentOptions, file: string): Promise<void> {
  const { order } = options
  const path = join(order.module, file)
  const command = [join(order.folder, interpreter), runRequirements, path, order.gpu]
  const outcome = await preferCpuTorch(options, [await mentions(path)], (env) => run(options, command, env))
  if (!outcome.ok) throw failed(`${file} failed: ${outcome.lines.at(-1) ?? 'it printed nothing'}`, outcome)
}

async function installPackages(
  options: EnvironmentOptions,
  specifiers: readonly string[],
): Promise<EnvironmentMarker['installer']> {
  const { order, uv, log } = options
  const python = join(order.folder, interpreter)
  const texts = [order.extra.join(' '), order.file === undefined ? '' : await mentions(join(order.module, order.file))]
  if (uv !== undefined) {
    const command = [uv, 'pip', 'install', '--python', python, ...specifiers]
    const byUv = await preferCpuTorch(options, texts, (env) => run(options, command, env))
    if (byUv.ok) return 'uv'
    const said = byUv.lines.join('\n')
    if (diskFull(said) || /Failed to build/.test(said)) throw failed(reason(byUv), byUv)
    log.write('warning', 'installer', 'uv could not install these requirements; trying pip')
    if (!(await providePip(options, uv))) throw failed(reason(byUv), byUv)
  }
  const byPip = await run(options, [python, '-m', 'pip', 'install', ...specifiers])
  if (byPip.ok) return 'pip'
  throw failed(reason(byPip), byPip)
}

/** False: there is no pip to be had, and uv's failure stands. */
async function providePip(options: EnvironmentOptions, uv: string): Promise<boolean> {
  const python = join(options.order.folder, interpreter)
  const ways = [
    [python, '-m', 'pip', '--version'],
    [uv, 'pip', 'install', '--quiet', '--python', python, 'pip'],
    [python, '-m', 'ensurepip'],
  ]
  for (const way of ways) {
    if ((await run(options, way)).ok) return true
  }
  return false
}

/**
 * Where no GPU is given, PyTorch's builds for the CPU are tried first. They come from an index of their own, which not
 * every network reaches: then the usual ones do.
 */
async function preferCpuTorch(
  { order, uv, env, log }: EnvironmentOptions,
  texts: readonly string[],
  attempt: (env: Readonly<Record<string, string>>) => Promise<Outcome>,
): Promise<Outcome> {
  const usual = env.UV_TORCH_BACKEND !== undefined || order.gpu !== 'NO_GPU' || uv === undefined
  if (usual || !texts.some((text) => torch.test(text))) return attempt(env)
  const outcome = await attempt({ ...env, UV_TORCH_BACKEND: 'cpu' })
  if (outcome.ok || diskFull(outcome.lines.join('\n'))) return outcome
  log.write('warning', 'installer', "PyTorch's builds for the CPU could not be installed; trying the usual ones")
  return attempt(env)
}

async function mentions(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '')
}

function run(options: EnvironmentOptions, command: readonly string[], env = options.env): Promise<Outcome> {
  const { order, programs, log, uv } = options
  const venv = join(order.folder, 'venv')
  const path = [join(venv, 'bin'), ...(uv === undefined ? [] : [dirname(uv)]), env.PATH ?? ''].join(delimiter)
  return programs.run(command, {
    cwd: order.module,
    env: { ...env, PATH: path, VIRTUAL_ENV: venv },
    onLine: progressOf(log),
  })
}

/** What uv or pip says why, its first cause included. */
function reason({ lines }: Outcome): string {
  const at = lines.findLastIndex((line) => /^\s*error:/i.test(line))
  const text = (lines[at] ?? lines.at(-1) ?? 'no reason was given').replace(/^\s*error:\s*/i, '')
  const cause = /^\s*cause:\s*(.*)/.exec(lines[at + 1] ?? '')?.[1]
  return cause === undefined || at === -1 ? text : `${text}: ${cause}`
}

function failed(message: string, { lines }: Outcome): InstallError {
  return new InstallError(diskFull(lines.join('\n')) ? diskFullMessage : message, lines)
}
