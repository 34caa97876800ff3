import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** The login of a registry, from where `docker login` puts it: the client's config.json or a credential helper. */
export interface RegistryAuth {
  readonly username?: string
  readonly password?: string
  readonly identitytoken?: string
  readonly serveraddress?: string
}

type Variables = Readonly<Record<string, string | undefined>>

const hub = 'https://index.docker.io/v1/'

/** `ghcr.io` of `ghcr.io/owner/image:tag`; Docker Hub where the reference names no registry. */
export function registryOf(reference: string): string {
  const first = reference.split('/')[0] ?? ''
  const named = reference.includes('/') && (first.includes('.') || first.includes(':') || first === 'localhost')
  return named ? first : 'docker.io'
}

/** Undefined where nobody has logged in, and where the configuration can't be read: the registry then says so itself. */
export async function registryAuth(registry: string, env: Variables): Promise<RegistryAuth | undefined> {
  const config = await readConfig(env)
  const keys = registry === 'docker.io' ? [hub, 'docker.io', 'index.docker.io', 'registry-1.docker.io'] : [registry]
  for (const key of keys) {
    const helper = config.credHelpers?.[key]
    const found = helper === undefined ? undefined : await askHelper(helper, key, env)
    if (found !== undefined) return found
  }
  for (const [name, entry] of Object.entries(config.auths ?? {})) {
    if (!keys.some((key) => plain(key) === plain(name))) continue
    const found =
      readEntry(entry, name) ?? (config.credsStore ? await askHelper(config.credsStore, name, env) : undefined)
    if (found !== undefined) return found
  }
  return config.credsStore === undefined ? undefined : await askHelper(config.credsStore, keys[0] ?? registry, env)
}

/** Every login that is written down, for builds whose Dockerfile may name any image. */
export async function allRegistryAuths(env: Variables): Promise<Record<string, RegistryAuth>> {
  const config = await readConfig(env)
  const found: Record<string, RegistryAuth> = {}
  for (const [name, entry] of Object.entries(config.auths ?? {})) {
    const auth =
      readEntry(entry, name) ?? (config.credsStore ? await askHelper(config.credsStore, name, env) : undefined)
    if (auth !== undefined) found[name] = auth
  }
  return found
}

interface ClientConfig {
  readonly auths?: Readonly<Record<string, Readonly<Record<string, unknown>>>>
  readonly credHelpers?: Readonly<Record<string, string>>
  readonly credsStore?: string
}

async function readConfig(env: Variables): Promise<ClientConfig> {
  const folder = env.DOCKER_CONFIG || join(env.HOME ?? homedir(), '.docker')
  try {
    const value: unknown = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'))
    return typeof value === 'object' && value !== null ? (value as ClientConfig) : {}
  } catch {
    return {}
  }
}

const plain = (registry: string): string => registry.replace(/^https?:\/\//, '').replace(/\/(v[12]\/?)?$/, '')

function readEntry(entry: Readonly<Record<string, unknown>>, serveraddress: string): RegistryAuth | undefined {
  const { auth, identitytoken, username, password } = entry
  if (typeof identitytoken === 'string' && identitytoken !== '') return { identitytoken, serveraddress }
  if (typeof auth === 'string' && auth !== '') {
    const [user = '', ...rest] = Buffer.from(auth, 'base64').toString().split(':')
    return { username: user, password: rest.join(':').replace(/\0+$/, ''), serveraddress }
  }
  if (typeof username === 'string' && typeof password === 'string') return { username, password, serveraddress }
  return undefined
}

/** `docker-credential-<helper> get`: reads the registry, writes `{"Username","Secret"}`. */
function askHelper(helper: string, registry: string, env: Variables): Promise<RegistryAuth | undefined> {
  if (!/^[\w.-]+$/.test(helper)) return Promise.resolve(undefined)
  return new Promise((resolve) => {
    const child = execFile(
      `docker-credential-${helper}`,
      ['get'],
      { timeout: 10_000, env: { ...env } },
      (error, stdout) => {
        resolve(error === null ? readHelper(stdout, registry) : undefined)
      },
    )
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(registry)
  })
}

function readHelper(stdout: string, serveraddress: string): RegistryAuth | undefined {
  try {
    const { Username, Secret } = JSON.parse(stdout) as { Username?: unknown; Secret?: unknown }
    if (typeof Secret !== 'string' || typeof Username !== 'string') return undefined
    return Username === '<token>'
      ? { identitytoken: Secret, serveraddress }
      : { username: Username, password: Secret, serveraddress }
  } catch {
    return undefined
  }
}
