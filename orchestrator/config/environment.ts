import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { reason } from './interpolate.ts'
import type { Problem } from './problems.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** Keys of `berth.yaml` that a variable overrides: variable -> path of the key. */
export const overrides: Readonly<
  Record<string, { readonly path: readonly string[]; readonly form?: 'list' | 'number' | 'boolean' }>
> = {
  BERTH_LISTEN: { path: ['listen'] },
  BERTH_ENGINE: { path: ['engine'] },
  BERTH_MODULES: { path: ['modules'] },
  BERTH_DATA: { path: ['data'] },
  BERTH_AUTH: { path: ['auth'] },
  BERTH_SHUTDOWN: { path: ['shutdown'] },
  BERTH_BODY_LIMIT: { path: ['body_limit'] },
  BERTH_MEMORY: { path: ['memory'] },
  BERTH_LOG_LEVEL: { path: ['log_level'] },
  BERTH_ALLOWED_HOSTS: { path: ['allowed_hosts'], form: 'list' },
  BERTH_QUEUE_LIMIT: { path: ['queue', 'limit'], form: 'number' },
  BERTH_QUEUE_TIMEOUT: { path: ['queue', 'timeout'] },
  BERTH_DOCKER_BASE_IMAGE: { path: ['docker', 'base_image'] },
  BERTH_DOCKER_RUNNER_IMAGE: { path: ['docker', 'runner_image'] },
  BERTH_DOCKER_SUBNETS: { path: ['docker', 'subnets'], form: 'list' },
  BERTH_DOCKER_SUBNET_PREFIX: { path: ['docker', 'subnet_prefix'], form: 'number' },
  BERTH_RELOAD: { path: ['reload'], form: 'boolean' },
  BERTH_INSTANCE: { path: ['instance'] },
}

export interface Override {
  readonly variable: string
  readonly path: readonly string[]
  readonly value: unknown
}

/** The overrides that are set; an empty variable counts as not set. */
export function readOverrides(env: Environment): readonly Override[] {
  return Object.entries(overrides).flatMap(([variable, { path, form }]) => {
    const text = env[variable]?.trim()
    return text === undefined || text === '' ? [] : [{ variable, path, value: shaped(text, form) }]
  })
}

function shaped(text: string, form: 'list' | 'number' | 'boolean' | undefined): unknown {
  if (form === 'list')
    return text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== '')
  if (form === 'number' && /^-?\d+(\.\d+)?$/.test(text)) return Number(text)
  if (form === 'boolean' && /^(true|1|yes)$/i.test(text)) return true
  if (form === 'boolean' && /^(false|0|no)$/i.test(text)) return false
  return text
}

/** The key of BERTH_ADMIN_KEY, or of the file that BERTH_ADMIN_KEY_FILE names. */
export function readAdminKey(
  env: Environment,
  folder: string,
): { readonly key?: string; readonly problems: readonly Problem[] } {
  const direct = env.BERTH_ADMIN_KEY
  const path = env.BERTH_ADMIN_KEY_FILE
  const problem = (field: string, message: string) => ({ problems: [{ file: 'environment', field, message }] })
  if (direct && path) return problem('BERTH_ADMIN_KEY_FILE', 'BERTH_ADMIN_KEY is set too: keep one of the two')
  if (direct) return checkedKey(direct, 'BERTH_ADMIN_KEY', problem)
  if (!path) return { problems: [] }
  try {
    return checkedKey(readFileSync(resolve(folder, path), 'utf8').trim(), 'BERTH_ADMIN_KEY_FILE', problem)
  } catch (error) {
    return problem(
      'BERTH_ADMIN_KEY_FILE',
      `the file ${path} can't be read (${reason(error)}): write a key into it, such as one made by \`openssl rand -hex 32\``,
    )
  }
}

/** A key travels in a header: printable, without spaces. */
function checkedKey(
  key: string,
  field: string,
  problem: (field: string, message: string) => { readonly problems: readonly Problem[] },
): { readonly key?: string; readonly problems: readonly Problem[] } {
  if (/^[\x21-\x7e]+$/.test(key)) return { key, problems: [] }
  return problem(field, 'a key is text without spaces, such as one made by `openssl rand -hex 32`')
}
