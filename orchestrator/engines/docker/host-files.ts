import { readFile, stat } from 'node:fs/promises'
import { basename, isAbsolute } from 'node:path'
import type { Entry } from './archive.ts'
import { inside } from './inside.ts'

/**
 * What an installer is told of this machine's way to the package index: proxies, index, certificates. Files that
 * variables name (a CA bundle, a pip.conf) are shipped into the container, and the variables point at them there.
 */
export interface HostEnvironment {
  readonly env: Readonly<Record<string, string>>
  /** For an archive whose root is the scratch volume. */
  readonly files: readonly Entry[]
}

type Variables = Readonly<Record<string, string | undefined>>

const passed = new Set([
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
  'SSL_CERT_FILE',
  'REQUESTS_CA_BUNDLE',
  'CURL_CA_BUNDLE',
  'NODE_EXTRA_CA_CERTS',
])

/** Of this machine's own disk, or decided by Berth. */
const kept = new Set([
  'PIP_CACHE_DIR',
  'UV_CACHE_DIR',
  'PIP_TARGET',
  'PIP_PREFIX',
  'PIP_USER',
  'UV_PYTHON',
  'UV_PROJECT_ENVIRONMENT',
])

const largestFile = 16 * 1024 * 1024

export async function hostEnvironment(variables: Variables): Promise<HostEnvironment> {
  const env: Record<string, string> = {}
  const shipped = new Map<string, Entry>()
  for (const [name, value] of Object.entries(variables)) {
    if (value === undefined || value === '' || !isPassed(name)) continue
    const words = await Promise.all(value.split(/\s+/).map((word) => translate(word, shipped)))
    const text = words.filter((word) => word !== undefined).join(' ')
    if (text !== '') env[name] = text
  }
  return { env, files: [...shipped.values()] }
}

function isPassed(name: string): boolean {
  if (passed.has(name.toUpperCase())) return true
  // Publishing is none of an installer's business: its secrets stay here.
  return /^(PIP|UV)_/.test(name) && !name.startsWith('UV_PUBLISH_') && !kept.has(name)
}

/** A file of this machine becomes one in the container; a folder of it does not exist there. */
async function translate(word: string, shipped: Map<string, Entry>): Promise<string | undefined> {
  if (!isAbsolute(word) || word.startsWith('/dev/')) return word
  const found = await stat(word).catch(() => undefined)
  if (found === undefined) return word
  if (!found.isFile() || found.size > largestFile) return undefined
  const known = shipped.get(word)
  const name = known?.name ?? `host/${shipped.size}-${basename(word)}`
  if (known === undefined) {
    const content = await readFile(word).catch(() => undefined)
    if (content === undefined) return undefined
    shipped.set(word, { name, content })
  }
  return `${inside.scratchMount}/${name}`
}
