import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { findProgram } from '../../bench/programs.ts'

const run = promisify(execFile)
const prefix = 'berth-chaos-docker-'
const root = join(import.meta.dirname, '../..')
const readyMs = 60_000

/**
 * A Docker daemon for the suite alone, which may be stopped and killed: with folders and a default bridge of its own (a
 * daemon that is to have none removes `docker0`, whosever that is) and its hands off the firewall, so that the machine's
 * own daemon and what runs on it are not touched.
 */
export class DockerDaemon {
  readonly #folder: string
  readonly #dockerd: string
  #process: ChildProcess | undefined

  private constructor(folder: string, dockerd: string) {
    this.#folder = folder
    this.#dockerd = dockerd
  }

  /** Why there can be none here; undefined when there can. */
  static obstacle(): string | undefined {
    if (process.getuid?.() !== 0) return 'only root can start a Docker daemon'
    const missing = ['dockerd', 'ip'].filter((program) => findProgram(program) === undefined)
    return missing.length === 0 ? undefined : `there is no ${missing.join(' and no ')}`
  }

  /** `liveRestore`: containers go on while it is away; else they end with it. */
  static async open(options: { readonly liveRestore: boolean }): Promise<DockerDaemon> {
    const dockerd = findProgram('dockerd')
    if (dockerd === undefined) throw new Error('there is no dockerd')
    await removeOfDeadRuns(dockerd)
    const daemon = new DockerDaemon(await mkdtemp(join(tmpdir(), `${prefix}${process.pid}-`)), dockerd)
    await writeFile(daemon.#file('daemon.json'), JSON.stringify({ 'live-restore': options.liveRestore }))
    try {
      await addBridge(bridgeOf(daemon.#folder))
      await daemon.start()
    } catch (error) {
      await daemon.close()
      throw error
    }
    return daemon
  }

  /** What DOCKER_HOST takes. */
  get host(): string {
    return `unix://${this.#file('socket')}`
  }

  /** Output of a docker command on this daemon. */
  async docker(...args: readonly string[]): Promise<string> {
    return (await run('docker', ['--host', this.host, ...args], { maxBuffer: 64 * 1024 * 1024 })).stdout.trimEnd()
  }

  /** Copies images from the machine's own daemon. */
  async take(images: readonly string[]): Promise<void> {
    await run('sh', ['-c', `docker save "$@" | docker --host "${this.host}" load`, 'sh', ...images])
  }

  /** Resolves when it answers. */
  async start(): Promise<void> {
    await rm(this.#file('pid'), { force: true })
    const log = openSync(this.#file('log'), 'a')
    const args = [
      ['--config-file', this.#file('daemon.json')],
      ['--data-root', this.#file('data')],
      ['--exec-root', this.#file('exec')],
      ['--pidfile', this.#file('pid')],
      ['--host', this.host],
      ['--bridge', bridgeOf(this.#folder)],
      ['--iptables=false', '--ip6tables=false', '--ip-forward=false', '--ip-masq=false', '--userland-proxy=false'],
      ['--shutdown-timeout', '5'],
    ]
    const started = spawn(this.#dockerd, args.flat(), { detached: true, stdio: ['ignore', log, log] })
    closeSync(log)
    started.unref()
    this.#process = started
    const deadline = Date.now() + readyMs
    while (
      !(await this.docker('version').then(
        () => true,
        () => false,
      ))
    ) {
      if (hasEnded(started) || Date.now() > deadline)
        throw new Error(`dockerd does not answer:\n${readFileSync(this.#file('log'), 'utf8').slice(-2_000)}`)
      await delay(50)
    }
  }

  /** Resolves when the daemon's process has ended. */
  async stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const stopped = this.#process
    if (stopped === undefined || hasEnded(stopped)) return
    const gone = once(stopped, 'exit')
    stopped.kill(signal)
    await gone
  }

  /** Ends it with all that it has made. */
  async close(): Promise<void> {
    if (this.#process !== undefined && hasEnded(this.#process)) await this.start().catch(() => {})
    await removeAll(this.#folder, this.host, this.#process?.pid)
  }

  #file(name: string): string {
    return join(this.#folder, name)
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null
}

/** Its name ends as the folder's does, so that it is found again when its run was killed. */
function bridgeOf(folder: string): string {
  return `chaos-${folder.slice(-6)}`
}

async function addBridge(name: string): Promise<void> {
  const digest = createHash('sha256').update(name).digest()
  await run('ip', ['link', 'add', name, 'type', 'bridge'])
  await run('ip', ['address', 'add', `10.212.${digest[0] ?? 0}.1/24`, 'dev', name])
  await run('ip', ['link', 'set', name, 'up'])
}

/** Of runs that were killed themselves. */
async function removeOfDeadRuns(dockerd: string): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const owner = Number(new RegExp(`^${prefix}(\\d+)-`).exec(name)?.[1] ?? Number.NaN)
    if (Number.isNaN(owner) || isAlive(owner)) continue
    const folder = join(tmpdir(), name)
    const pid = Number(await readFile(join(folder, 'pid'), 'utf8').catch(() => ''))
    const lives = pid > 0 && (await commandOf(pid)).startsWith(`${dockerd}\0`)
    await removeAll(folder, `unix://${join(folder, 'socket')}`, lives ? pid : undefined)
  }
}

async function removeAll(folder: string, host: string, daemon: number | undefined): Promise<void> {
  const docker = async (...args: readonly string[]): Promise<string[]> => {
    const { stdout } = await run('docker', ['--host', host, ...args], { timeout: 60_000 }).catch(() => ({ stdout: '' }))
    return stdout.split('\n').filter((line) => line !== '')
  }
  const containers = await docker('ps', '--all', '--quiet')
  if (containers.length > 0) await docker('rm', '--force', '--volumes', ...containers)
  // Bridges of the machine: they would outlive the daemon.
  for (const network of await docker('network', 'ls', '--quiet', '--filter', 'type=custom'))
    await docker('network', 'rm', network)
  await endProcess(daemon, 'SIGTERM', 20_000)
  await endProcess(daemon, 'SIGKILL', 5_000)
  const containerd = Number(await readFile(join(folder, 'exec/containerd/containerd.pid'), 'utf8').catch(() => ''))
  if (containerd > 0 && (await commandOf(containerd)).includes(folder)) await endProcess(containerd, 'SIGKILL', 5_000)
  await endForgotten(folder)
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
  for (const mount of mounts.map((line) => line.split(' ')[1] ?? '').filter((path) => path.startsWith(`${folder}/`)))
    await run('umount', ['--lazy', mount]).catch(() => {})
  await run('ip', ['link', 'delete', bridgeOf(folder)]).catch(() => {})
  await rm(folder, { recursive: true, force: true, maxRetries: 5 })
}

/** Containers that a daemon was just starting when it was killed: the next one does not know of them. */
async function endForgotten(folder: string): Promise<void> {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  const parents = new Map(processes.map((name) => [Number(name), parentOf(name)]))
  for (const shim of parents.keys()) {
    if (!(await commandOf(shim)).includes(`${folder}/exec/containerd`)) continue
    for (const [child, parent] of parents) if (parent === shim) await endProcess(child, 'SIGKILL', 5_000)
    await endProcess(shim, 'SIGKILL', 5_000)
  }
}

function parentOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return 0 // it has ended
  }
}

async function endProcess(pid: number | undefined, signal: NodeJS.Signals, withinMs: number): Promise<void> {
  if (pid === undefined || !isAlive(pid)) return
  process.kill(pid, signal)
  for (const deadline = Date.now() + withinMs; isAlive(pid) && Date.now() < deadline; ) await delay(50)
}

function isAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false
  }
}

const commandOf = (pid: number): Promise<string> => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')

/** The runner's image as Berth would build it, made on the machine's own daemon, which has a network for its build. */
export async function buildRunnerImage(): Promise<string> {
  const tag = 'berth-test/chaos-runner:latest'
  const named = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'PIP_INDEX_URL', 'PIP_EXTRA_INDEX_URL', 'npm_config_registry']
  const args = named.flatMap((name) => (process.env[name] ? ['--build-arg', name] : []))
  await run('docker', ['build', '--quiet', '--file', 'module-runner/Dockerfile', '--tag', tag, ...args, '.'], {
    cwd: root,
    timeout: 300_000,
  })
  return tag
}
