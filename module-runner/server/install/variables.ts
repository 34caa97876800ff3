import { existsSync } from 'node:fs'
import { installVariable, uvVariable } from '../../constants.ts'
import type { InstallOrder } from '../../protocol.ts'

/** Variables for the programs of an installation: caches, and uv told what people have told pip. */
type Variables = Readonly<Record<string, string | undefined>>

/** uv reads none of pip's variables; these say the same. */
const asUv: Readonly<Record<string, { readonly name: string; readonly write?: (value: string) => string }>> = {
  PIP_INDEX_URL: { name: 'UV_DEFAULT_INDEX' },
  PIP_EXTRA_INDEX_URL: { name: 'UV_INDEX' },
  PIP_FIND_LINKS: { name: 'UV_FIND_LINKS', write: (value) => value.trim().split(/\s+/).join(',') },
  PIP_NO_INDEX: { name: 'UV_NO_INDEX', write: truth },
  PIP_CONSTRAINT: { name: 'UV_CONSTRAINT' },
  PIP_TRUSTED_HOST: { name: 'UV_INSECURE_HOST' },
  PIP_CERT: { name: 'SSL_CERT_FILE' },
  PIP_PRE: {
    name: 'UV_PRERELEASE',
    write: (value) => (truth(value) === 'true' ? 'allow' : 'if-necessary-or-explicit'),
  },
  PIP_DEFAULT_TIMEOUT: { name: 'UV_HTTP_TIMEOUT' },
}

/** Where Debian and its kin, and Fedora and its kin, keep the certificate authorities of the machine. */
const systemCertificates = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt']

export interface VariableOptions {
  readonly order: InstallOrder
  readonly uv: string | undefined
  /** Files of cache and environment can't be linked: they are on different file systems. */
  readonly copy: boolean
}

export function installerVariables(own: Variables, { order, uv, copy }: VariableOptions): Record<string, string> {
  const env: Record<string, string> = {}
  for (const [name, value] of Object.entries(own)) {
    if (value !== undefined && name !== installVariable && name !== uvVariable) env[name] = value
  }
  const byDefault = (name: string, value: string) => {
    env[name] ??= value
  }
  for (const [pip, { name, write }] of Object.entries(asUv)) {
    const value = own[pip]
    if (value !== undefined && value !== '') byDefault(name, write?.(value) ?? value)
  }
  // pip takes the best version of all indexes. uv does not by default, and people have written their lists for pip.
  if (own.PIP_EXTRA_INDEX_URL) byDefault('UV_INDEX_STRATEGY', 'unsafe-best-match')
  if (env.SSL_CERT_FILE || systemCertificates.some((path) => existsSync(path))) {
    byDefault('UV_SYSTEM_CERTS', 'true')
    byDefault('UV_NATIVE_TLS', 'true') // the name that older releases know
  }
  if (copy) byDefault('UV_LINK_MODE', 'copy')
  byDefault('UV_PYTHON_DOWNLOADS', 'never')
  if (uv !== undefined) env[uvVariable] = uv
  return {
    ...env,
    UV_CACHE_DIR: `${order.cache}/uv`,
    PIP_CACHE_DIR: `${order.cache}/pip`,
    PIP_DISABLE_PIP_VERSION_CHECK: '1',
    PIP_NO_INPUT: '1',
    PYTHONUNBUFFERED: '1',
    BERTH_GPU: order.gpu,
  }
}

function truth(value: string): string {
  return ['1', 'true', 'yes', 'on'].includes(value.toLowerCase()) ? 'true' : 'false'
}
