import type Docker from 'dockerode'
import {
  type InstallOrder,
  installerNodeFlags,
  installVariable,
  runnerNodeFlags,
  runnerVariables,
  uvVariable,
} from '../../../module-runner/protocol.ts'
import { BerthError } from '../../domain/errors.ts'
import type { GpuDevice } from '../engine.ts'
import { labels } from '../labels.ts'
import type { WorkloadSpec } from '../workload-spec.ts'
import type { ContainerOptions } from './daemon.ts'
import { gpuSettings } from './gpu-settings.ts'
import { inside, moduleFolder } from './inside.ts'
import { names } from './names.ts'

/** Pure: what is asked for, as the daemon wants to hear it. Nothing here talks to anybody. */

/** What a daemon can do, as far as containers are concerned. */
export interface HostFacts {
  /** There is a program that reaps zombies as the first process. */
  readonly init: boolean
  readonly cpus: number
  /** The `local` log driver is there: unlike `json-file` it keeps characters whole where it cuts long lines. */
  readonly localLogs: boolean
  /** Numbers of the groups that own GPU device files. */
  readonly deviceGroups: readonly number[]
}

/** What `prepare` found for a workload. */
export interface WorkloadParts {
  readonly imageId: string
  /** For protocol images: their own user, when it is not root. */
  readonly imageUser?: string | undefined
  /** Absent for protocol images, which bring their own runner. */
  readonly runnerVolume?: string
  readonly environmentKey?: string
  readonly gpus: readonly GpuDevice[]
  readonly networkId: string
  /** Address of the daemon's machine at which the port is published; absent: container addresses are reached. */
  readonly publishAt?: string
}

const portKey = `${inside.port}/tcp`

/** One variable is one string to the kernel, and 128 KiB at most. */
const longestVariable = 131_071

export function workloadOptions(spec: WorkloadSpec, parts: WorkloadParts, host: HostFacts): ContainerOptions {
  const { runnerVolume, gpus, publishAt, networkId } = parts
  const gpu = gpuSettings(gpus, host.deviceGroups)
  const user = runnerVolume === undefined ? parts.imageUser : undefined
  const runner = runnerVolume === undefined ? undefined : runnerParts(spec, parts, runnerVolume)
  return {
    Image: parts.imageId,
    User: user ?? `${inside.uid}:${inside.uid}`,
    Env: environment({
      ...(user === undefined ? { HOME: '/tmp' } : {}),
      ...runner?.defaults,
      ...spec.env,
      [runnerVariables.port]: String(inside.port),
      [runnerVariables.token]: spec.token,
      ...runner?.variables,
      ...gpu.env,
    }),
    ...(runner === undefined ? {} : { ...runner.command, WorkingDir: '/' }),
    Healthcheck: { Test: ['NONE'] } as Docker.HealthConfig,
    StopTimeout: stopSeconds(spec),
    Labels: {
      ...commonLabels(spec, 'workload'),
      [labels.replica]: spec.replica,
      [labels.generation]: String(spec.generation),
      [labels.specHash]: spec.specHash,
      ...(gpus.length === 0 ? {} : { [labels.gpus]: gpus.map(({ id }) => id).join(',') }),
      ...(parts.environmentKey === undefined ? {} : { [labels.environment]: parts.environmentKey }),
    },
    ...(publishAt === undefined ? {} : { ExposedPorts: { [portKey]: {} } }),
    HostConfig: {
      ...hardened(host, spec.limits.pids),
      NetworkMode: networkId,
      Mounts: runner?.mounts ?? [],
      Tmpfs: {
        '/tmp': `rw,nosuid,nodev,exec,mode=1777,size=${temporaryBytes(spec.limits.memoryBytes)}`,
        '/run/berth': `rw,nosuid,nodev,noexec,mode=0700,uid=${inside.uid},gid=${inside.uid},size=16m`,
      },
      ...memory(spec.limits.memoryBytes),
      ...(spec.limits.cpus === undefined ? {} : { NanoCpus: Math.round(Math.min(spec.limits.cpus, host.cpus) * 1e9) }),
      ...(publishAt === undefined ? {} : { PortBindings: { [portKey]: [{ HostIp: publishAt, HostPort: '' }] } }),
      ...gpu.host,
    },
  }
}

/** Everything that a container with Berth's own runner has and a protocol image has not. */
function runnerParts(spec: WorkloadSpec, parts: WorkloadParts, runnerVolume: string) {
  const { environmentKey } = parts
  const configuration = {
    ...spec.runner,
    paths: {
      module: moduleFolder(spec.module),
      ...(environmentKey === undefined ? {} : { environment: inside.environment }),
      data: inside.data,
      cache: inside.cache,
    },
  }
  return {
    defaults: {
      NODE_COMPILE_CACHE: inside.compiled,
      HOME: `${inside.data}/home`,
      HF_HOME: `${inside.cache}/huggingface`,
      TORCH_HOME: `${inside.cache}/torch`,
      XDG_CACHE_HOME: `${inside.cache}/xdg`,
    },
    variables: { [runnerVariables.module]: boundedJson(configuration, spec.module) },
    command: { Entrypoint: [inside.node], Cmd: [...runnerNodeFlags, inside.main] },
    mounts: [
      readOnly(runnerVolume, inside.runner),
      anonymous(inside.modules),
      volume(names.data(spec.instance, spec.module), inside.dataMount, commonLabels(spec, 'data')),
      volume(names.models(spec.instance), inside.cacheMount, {
        [labels.instance]: spec.instance,
        [labels.role]: 'cache',
      }),
      ...(environmentKey === undefined ? [] : [readOnly(names.environment(environmentKey), inside.environmentMount)]),
    ],
  }
}

export interface InstallerParts {
  readonly imageId: string
  readonly runnerVolume: string
  readonly networkId: string
  readonly order: InstallOrder
  /** Proxies, index, certificates: with paths as they are inside. */
  readonly env: Readonly<Record<string, string>>
}

/** Pids that an install may use: compilers fork. */
const installerPids = 2048

/** The one-shot container that fills an environment: locked like a module, but with the network. */
export function installerOptions(spec: WorkloadSpec, parts: InstallerParts, host: HostFacts): ContainerOptions {
  const { order } = parts
  const shared = { [labels.environment]: order.key }
  return {
    Image: parts.imageId,
    User: `${inside.uid}:${inside.uid}`,
    Env: environment({
      ...parts.env,
      NODE_COMPILE_CACHE: inside.compiled,
      HOME: `${inside.temporary}/home`,
      TMPDIR: inside.temporary,
      [uvVariable]: inside.uv,
      [installVariable]: boundedJson(order, spec.module),
    }),
    Entrypoint: [inside.node],
    Cmd: [...installerNodeFlags, inside.install],
    WorkingDir: '/',
    Healthcheck: { Test: ['NONE'] } as Docker.HealthConfig,
    StopTimeout: 1,
    Labels: { ...commonLabels(spec, 'installer'), ...shared },
    HostConfig: {
      ...hardened(host, installerPids),
      NetworkMode: parts.networkId,
      Mounts: [
        readOnly(parts.runnerVolume, inside.runner),
        anonymous(inside.modules),
        anonymous(inside.scratchMount),
        volume(names.environment(order.key), inside.environmentMount, {
          [labels.instance]: spec.instance,
          [labels.role]: 'environment',
          ...shared,
        }),
        volume(names.downloads, inside.downloadsMount, { [labels.role]: 'cache' }),
      ],
      Tmpfs: { '/tmp': 'rw,nosuid,nodev,exec,mode=1777,size=1g' },
    },
  }
}

/** A container that is never started: the daemon's way to put files into volumes and to read them. */
export function helperOptions(
  instance: string,
  imageId: string,
  volumes: readonly {
    readonly name: string
    readonly target: string
    readonly copy?: boolean
    readonly labels: Record<string, string>
  }[],
): ContainerOptions {
  return {
    Image: imageId,
    Entrypoint: ['/berth-helper-is-never-started'],
    Labels: { [labels.instance]: instance, [labels.role]: 'helper' },
    HostConfig: {
      NetworkMode: 'none',
      CapDrop: ['ALL'],
      Mounts: volumes.map(({ name, target, copy = false, labels: marks }) => volume(name, target, marks, copy)),
    },
  }
}

/** The hardening of engines.md; seccomp stays the daemon's default profile, because nothing here replaces it. */
function hardened(host: HostFacts, pids: number): Docker.HostConfig {
  return {
    ReadonlyRootfs: true,
    CapDrop: ['ALL'],
    SecurityOpt: ['no-new-privileges:true'],
    PidsLimit: pids,
    Privileged: false,
    RestartPolicy: { Name: 'no' },
    Init: host.init,
    LogConfig: { Type: host.localLogs ? 'local' : 'json-file', Config: { 'max-size': '10m', 'max-file': '2' } },
  }
}

function commonLabels(spec: WorkloadSpec, role: string): Record<string, string> {
  return { [labels.instance]: spec.instance, [labels.module]: spec.module, [labels.role]: role }
}

/** When somebody else stops it (the machine shuts down), it may still drain; a grace without end is an hour there. */
function stopSeconds({ runner }: WorkloadSpec): number {
  return Math.min(3600, Math.ceil((runner.drainMs + runner.callMs) / 1000) + 5)
}

function memory(bytes: number | undefined): Docker.HostConfig {
  return bytes === undefined ? {} : { Memory: bytes, MemorySwap: bytes }
}

/** Files in /tmp are memory, and count against the module's limit. */
function temporaryBytes(memoryBytes: number | undefined): number {
  const most = 1024 ** 3
  return memoryBytes === undefined ? most : Math.min(most, Math.floor(memoryBytes / 2))
}

function volume(name: string, target: string, marks: Record<string, string>, copy = false): Docker.MountSettings {
  return {
    Type: 'volume',
    Source: name,
    Target: target,
    VolumeOptions: { NoCopy: !copy, Labels: marks } as NonNullable<Docker.MountSettings['VolumeOptions']>,
  }
}

const anonymous = (target: string): Docker.MountSettings => volume('', target, {})
const readOnly = (name: string, target: string): Docker.MountSettings => ({
  ...volume(name, target, {}),
  ReadOnly: true,
})

function environment(variables: Readonly<Record<string, string>>): string[] {
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`)
}

function boundedJson(value: unknown, module: string): string {
  const json = JSON.stringify(value)
  if (Buffer.byteLength(json) <= longestVariable - 64) return json
  throw new BerthError(
    'MANIFEST_INVALID',
    `The configuration of module ${module} is larger than a container's start can carry (128 KiB)`,
    {
      module,
      remedy: "put large values into a file in the module's folder",
    },
  )
}
