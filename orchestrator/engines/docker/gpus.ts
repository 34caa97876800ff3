import { execFile } from 'node:child_process'
import { readdir, readFile, readlink, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { parse as parseYaml } from 'yaml'
import type { GpuDevice } from '../engine.ts'
import { labels } from '../labels.ts'
import type { Daemon, DaemonInfo } from './daemon.ts'
import { isRefusal } from './daemon-error.ts'
import { readOutput } from './logs.ts'

/**
 * The GPUs that this daemon can give to containers: found, never assumed. CDI devices first, since the daemon itself
 * injects them; else NVIDIA's by device request where its runtime is there; AMD's by their device files.
 */
export interface FoundGpus {
  readonly gpus: readonly GpuDevice[]
  /** Numbers of the groups that own AMD's device files. */
  readonly deviceGroups: readonly number[]
}

export interface GpuSearch {
  readonly daemon: Daemon
  readonly info: DaemonInfo
  /** The daemon runs on this machine, so that its files can be looked at here. */
  readonly local: boolean
  /** An image for the probe of NVIDIA's runtime; used only when it is there already. */
  readonly probeImage: string
  readonly instance: string
}

export async function findGpus(search: GpuSearch, signal: AbortSignal): Promise<FoundGpus> {
  const cdi = cdiDevices(await cdiNames(search.info))
  const nvidia = cdi.some(({ kind }) => kind === 'nvidia') ? [] : await nvidiaByRequest(search, signal)
  const amd = cdi.some(({ kind }) => kind === 'amd') || !search.local ? [] : await amdByFile('/')
  const memory = search.local && cdi.length > 0 ? await localMemory() : new Map<string, number>()
  const sized = cdi.map((gpu) => {
    const memoryBytes = memory.get(gpu.id.slice(gpu.id.indexOf('=') + 1))
    return memoryBytes === undefined ? gpu : { ...gpu, memoryBytes }
  })
  return { gpus: [...sized, ...nvidia, ...amd], deviceGroups: amd.length === 0 ? [] : await groupsOf(amd) }
}

/** Qualified CDI names, such as `nvidia.com/gpu=0`: the daemon's own list (28 and later), else its folders where they can be read. */
async function cdiNames(info: DaemonInfo): Promise<readonly string[]> {
  const discovered = list(info.DiscoveredDevices).flatMap((device) => {
    const { Source, ID } = device as { readonly Source?: unknown; readonly ID?: unknown }
    return Source === 'cdi' && typeof ID === 'string' ? [ID] : []
  })
  if (discovered.length > 0) return discovered
  const texts = await Promise.all(list(info.CDISpecDirs).map((folder) => readSpecs(String(folder))))
  return texts.flat().flatMap(namesOfSpec)
}

async function readSpecs(folder: string): Promise<readonly string[]> {
  const names = await readdir(folder).catch(() => [])
  const specs = names.filter((name) => /\.(json|ya?ml)$/.test(name))
  return await Promise.all(specs.map((name) => readFile(join(folder, name), 'utf8').catch(() => '')))
}

/** Names of a CDI specification, JSON or YAML; none of one that is broken, which the daemon ignores too. */
export function namesOfSpec(text: string): readonly string[] {
  try {
    const { kind, devices } = parseYaml(text) as { readonly kind?: unknown; readonly devices?: unknown }
    return list(devices).map((device) => `${String(kind)}=${String((device as { readonly name?: unknown }).name)}`)
  } catch {
    return []
  }
}

/**
 * One entry a GPU: specifications list the same device by index and by UUID, and all of them as `all`. Indexes (and
 * parts of one, `0:1`) are taken where there are any.
 */
export function cdiDevices(qualified: readonly string[]): readonly GpuDevice[] {
  const kinds = [
    ['nvidia.com/gpu=', 'nvidia'],
    ['amd.com/gpu=', 'amd'],
  ] as const
  return kinds.flatMap(([prefix, kind]) => {
    const names = qualified
      .filter((id) => id.startsWith(prefix))
      .map((id) => id.slice(prefix.length))
      .filter((name) => name !== 'all')
    const indexes = names.filter((name) => /^\d+(:\d+)?$/.test(name))
    const chosen = [...new Set(indexes.length > 0 ? indexes : names)].sort(byNumber)
    return chosen.map((name): GpuDevice => ({ id: prefix + name, kind, via: 'cdi' }))
  })
}

const byNumber = (a: string, b: string): number => a.localeCompare(b, 'en', { numeric: true })

const query = ['--query-gpu=index,memory.total', '--format=csv,noheader,nounits']

/** NVIDIA's runtime, or its hook on this machine, makes device requests possible; its own tool counts the devices. */
async function nvidiaByRequest(search: GpuSearch, signal: AbortSignal): Promise<readonly GpuDevice[]> {
  const registered = Object.hasOwn((search.info.Runtimes ?? {}) as object, 'nvidia')
  const driver = search.local && (await stat('/dev/nvidiactl').catch(() => undefined)) !== undefined
  if (!registered && !driver) return []
  const answer = await probe(search, signal)
  return parseSmi(answer).map(([id, memoryBytes]) => ({
    id,
    kind: 'nvidia',
    via: 'device-request',
    ...(memoryBytes === undefined ? {} : { memoryBytes }),
  }))
}

/** `nvidia-smi` in a container with every device: proves that requests work, and sees what modules will see. */
async function probe({ daemon, probeImage, instance }: GpuSearch, signal: AbortSignal): Promise<string> {
  const options = {
    Image: probeImage,
    Entrypoint: ['nvidia-smi'],
    Cmd: query,
    Labels: { [labels.instance]: instance, [labels.role]: 'helper' },
    HostConfig: {
      NetworkMode: 'none',
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true'],
      PidsLimit: 64,
      DeviceRequests: [{ Count: -1, Capabilities: [['gpu', 'utility']] }],
    },
  }
  let id: string | undefined
  try {
    // Not with the signal: a container that is made after nobody listens any more would be left behind.
    id = await daemon.createContainer(undefined, options)
    signal.throwIfAborted()
    await daemon.startContainer(id, signal)
    const code = await daemon.wait(id, 'not-running', AbortSignal.any([signal, AbortSignal.timeout(30_000)]))
    return code === 0 ? await readOutput(daemon, id, signal) : ''
  } catch (error) {
    if (isRefusal(error)) return ''
    throw error
  } finally {
    if (id !== undefined) await daemon.removeContainer(id).catch(() => undefined)
  }
}

/** Lines `<index>, <MiB>`; the memory of some devices is `[N/A]`. */
export function parseSmi(output: string): readonly (readonly [index: string, memoryBytes: number | undefined])[] {
  return output.split('\n').flatMap((line) => {
    const [index = '', mebibytes] = line.split(',').map((part) => part.trim())
    if (!/^\d+$/.test(index)) return []
    const memory = Number(mebibytes)
    return [[index, Number.isFinite(memory) && memory > 0 ? memory * 1024 * 1024 : undefined] as const]
  })
}

function localMemory(): Promise<Map<string, number>> {
  return new Promise((resolve) => {
    execFile('nvidia-smi', query, { timeout: 5_000 }, (error, stdout) => {
      const sizes = parseSmi(error === null ? stdout : '').flatMap(([index, bytes]) =>
        bytes === undefined ? [] : [[index, bytes] as const],
      )
      resolve(new Map(sizes))
    })
  })
}

/** Render nodes whose driver is `amdgpu`, where the compute driver's file is there too. `root`: of the file system. */
export async function amdByFile(root: string): Promise<readonly GpuDevice[]> {
  if ((await stat(join(root, 'dev/kfd')).catch(() => undefined)) === undefined) return []
  const nodes = (await readdir(join(root, 'sys/class/drm')).catch(() => [])).filter((name) => /^renderD\d+$/.test(name))
  const found = await Promise.all(
    nodes.sort(byNumber).map(async (node): Promise<readonly GpuDevice[]> => {
      const device = join(root, 'sys/class/drm', node, 'device')
      const driver = await readlink(join(device, 'driver')).catch(() => '')
      if (!driver.endsWith('/amdgpu')) return []
      const memory = Number(await readFile(join(device, 'mem_info_vram_total'), 'utf8').catch(() => ''))
      const memoryBytes = memory > 0 ? { memoryBytes: memory } : {}
      return [{ id: `/dev/dri/${node}`, kind: 'amd', via: 'device-file', ...memoryBytes }]
    }),
  )
  return found.flat()
}

async function groupsOf(gpus: readonly GpuDevice[]): Promise<readonly number[]> {
  const files = await Promise.all(
    ['/dev/kfd', ...gpus.map(({ id }) => id)].map((path) => stat(path).catch(() => undefined)),
  )
  return [...new Set(files.flatMap((file) => (file === undefined ? [] : [file.gid])))]
}

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
