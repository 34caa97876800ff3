/**
 * The variables of this machine that child processes may see. An allow-list: the orchestrator's own, its admin key
 * among them, never reach a module.
 */
type Variables = Readonly<Record<string, string | undefined>>

const common = new Set([
  'PATH',
  'LANG',
  'LANGUAGE',
  'TZ',
  'TMPDIR',
  'LD_LIBRARY_PATH',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'REQUESTS_CA_BUNDLE',
  'CURL_CA_BUNDLE',
  'NODE_EXTRA_CA_CERTS',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'NO_PROXY',
  'ALL_PROXY',
])

/** What pip and uv read to find packages, their credentials included: installers only. */
const installers = new Set([
  'HOME',
  'USER',
  'LOGNAME',
  'NETRC',
  'XDG_CONFIG_HOME',
  'XDG_CONFIG_DIRS',
  'KEYRING_BACKEND',
])

/** For modules: language, time zone, certificates, proxies. */
export function hostVariables(env: Variables): Record<string, string> {
  return pick(env, (name) => common.has(name.toUpperCase()) || name.startsWith('LC_'))
}

/** For installers of environments: the same, and how packages are found. */
export function installerVariables(env: Variables): Record<string, string> {
  // Publishing is none of an installer's business: its secrets stay here.
  const wanted = (name: string): boolean =>
    installers.has(name) || (/^(PIP|UV)_/.test(name) && !/^UV_PUBLISH_|CACHE_DIR$/.test(name))
  return { ...hostVariables(env), ...pick(env, wanted) }
}

function pick(env: Variables, wanted: (name: string) => boolean): Record<string, string> {
  const picked: Record<string, string> = {}
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && wanted(name)) picked[name] = value
  }
  return picked
}
