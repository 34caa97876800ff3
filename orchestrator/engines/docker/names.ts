import { createHash } from 'node:crypto'

/**
 * Names of what Berth makes in Docker. What modules own carries the instance; runners, environments and downloads are
 * the same whoever made them, and are shared.
 */
export const names = {
  container: (instance: string, replica: string): string => join('berth', instance, replica),
  /** Two, so that a module can change its policy while its old generation still runs. */
  network: (instance: string, module: string, policy: 'none' | 'egress'): string =>
    join('berth', instance, module, ...(policy === 'egress' ? ['egress'] : [])),
  data: (instance: string, module: string): string => join('berth', instance, module, 'data'),
  models: (instance: string): string => join('berth', instance, 'models'),
  owner: (instance: string, number: number): string => join('berth', instance, `owner-${number}`),
  installNetwork: (instance: string): string => join('berth', instance, 'install', 'network'),
  environment: (key: string): string => `berth-env-${key}`,
  installer: (key: string): string => `berth-install-${key}`,
  runner: (imageId: string): string => `berth-runner-${imageId.replace(/^sha256:/, '').slice(0, 16)}`,
  downloads: 'berth-cache-downloads',
} as const

const longest = 120

/** Docker's names: letters, digits, `_.-`. Where something had to be replaced or cut, a hash keeps the name unique. */
function join(...parts: readonly string[]): string {
  const exact = parts.join('-')
  const plain = exact.replace(/[^A-Za-z0-9_.-]/g, '_').slice(0, longest)
  if (plain === exact) return exact
  return `${plain}-${createHash('sha256').update(exact).digest('hex').slice(0, 8)}`
}
