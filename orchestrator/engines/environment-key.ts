import { createHash } from 'node:crypto'
import type { InstallOrder } from '../../module-runner/protocol.ts'
import { stableJson } from './stable-json.ts'

/** Everything that decides what an installed environment contains (engines.md: "content-addressed"). */
export interface EnvironmentKeyParts {
  /** `Requirements.hash`: the normalised requirements and the local files that they name. */
  readonly requirements: string
  /** What it is installed on: the base image's digest, or the identity of the host's interpreter. */
  readonly base: string
  /** The Python version asked for, such as `3.12`; absent: the base's own. */
  readonly python?: string | undefined
  /** As the engine names it: `x64`, `amd64`, `arm64`... */
  readonly architecture: string
  /** Options that decide where packages come from (`indexOptions`); credentials in addresses do not count. */
  readonly index: Readonly<Record<string, string>>
  /** Wheels follow the GPU that the module will get. */
  readonly gpu: InstallOrder['gpu']
}

/** Grows when the installer changes what it puts into an environment, so that old ones are not taken for new. */
const layout = 1

/** The name of an environment: 24 hexadecimal characters; equal parts give equal keys, whatever their order. */
export function environmentKey(parts: EnvironmentKeyParts): string {
  const index = Object.fromEntries(
    Object.entries(parts.index).map(([name, value]) => [name, withoutCredentials(value)]),
  )
  return createHash('sha256')
    .update(stableJson({ layout, ...parts, index }))
    .digest('hex')
    .slice(0, 24)
}

function withoutCredentials(option: string): string {
  return option.replaceAll(/(\/\/)[^/@\s]*@/g, '$1')
}

/** Variables of pip and uv that decide where packages come from: part of the key, and passed on to installers. */
const indexVariables = [
  'PIP_INDEX_URL',
  'PIP_EXTRA_INDEX_URL',
  'PIP_FIND_LINKS',
  'PIP_NO_INDEX',
  'PIP_CONSTRAINT',
  'PIP_PRE',
  'PIP_ONLY_BINARY',
  'PIP_NO_BINARY',
  'PIP_CONFIG_FILE',
  'UV_INDEX_URL',
  'UV_DEFAULT_INDEX',
  'UV_EXTRA_INDEX_URL',
  'UV_INDEX',
  'UV_FIND_LINKS',
  'UV_NO_INDEX',
  'UV_CONSTRAINT',
  'UV_PRERELEASE',
  'UV_INDEX_STRATEGY',
  'UV_TORCH_BACKEND',
  'UV_CONFIG_FILE',
] as const

/** The index options of an environment (`process.env`), for `EnvironmentKeyParts.index` and for installers. */
export function indexOptions(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const options: Record<string, string> = {}
  for (const name of indexVariables) {
    const value = env[name]
    if (value !== undefined && value !== '') options[name] = value
  }
  return options
}
