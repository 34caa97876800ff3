import { readFile, stat } from 'node:fs/promises'

/** The variables that name a whole bundle; `NODE_EXTRA_CA_CERTS` names additions to one. */
const bundles = ['SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'CURL_CA_BUNDLE'] as const
const largestBytes = 3 * 1024 * 1024

/** The certificates that this machine's network needs, where a variable names a file of them. */
export async function caBundle(env: Readonly<Record<string, string | undefined>>): Promise<Buffer | undefined> {
  for (const name of bundles) {
    const path = env[name]
    if (path === undefined || path === '') continue
    const found = await stat(path).catch(() => undefined)
    if (found?.isFile() !== true || found.size > largestBytes) continue
    const content = await readFile(path).catch(() => undefined)
    if (content !== undefined) return content
  }
  return undefined
}
