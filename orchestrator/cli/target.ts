import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'

export type Environment = Readonly<Record<string, string | undefined>>

/** Where the orchestrator is, as far as the command can tell without asking it. */
export interface Target {
  /** BERTH_URL, else made of BERTH_LISTEN or `listen` in berth.yaml, else http://127.0.0.1:8080. */
  readonly url: string
  /** Where an orchestrator started here would listen: like `url`, but without BERTH_URL. */
  readonly localUrl: string
  /** `url` is on this machine. */
  readonly local: boolean
  /** Absolute path of the data folder that an orchestrator started here would use. */
  readonly data: string
  readonly key?: string
}

export async function findTarget(env: Environment, cwd: string): Promise<Target> {
  const settings = await readSettings(env, cwd)
  const localUrl = listenUrl(env.BERTH_LISTEN?.trim() || settings.listen)
  const url = env.BERTH_URL?.trim().replace(/\/+$/, '') || localUrl
  return {
    url,
    localUrl,
    local: url === localUrl || /^(localhost|127\.[\d.]+|\[::1\])$/.test(URL.parse(url)?.hostname ?? ''),
    data: env.BERTH_DATA
      ? path.resolve(cwd, env.BERTH_DATA)
      : path.resolve(settings.folder, settings.data ?? './.berth'),
    ...(env.BERTH_KEY ? { key: env.BERTH_KEY.trim() } : {}),
  }
}

/** `host:port` as a URL that reaches it from this machine; anything unclear is the default, and `up` tells what is wrong. */
export function listenUrl(listen: string | undefined): string {
  const match = /^(?:(\[[^\]]+\]|[^:\s]*):)?(\d{1,5})$/.exec(listen ?? '')
  if (!match) return 'http://127.0.0.1:8080'
  const host = match[1] ?? '127.0.0.1'
  const everywhere: Record<string, string> = {
    '': '127.0.0.1',
    '*': '127.0.0.1',
    '0.0.0.0': '127.0.0.1',
    '[::]': '[::1]',
  }
  return `http://${everywhere[host] ?? host}:${match[2]}`
}

/** The two keys of berth.yaml that say where to look. Its errors are the orchestrator's to report. */
async function readSettings(
  env: Environment,
  cwd: string,
): Promise<{ folder: string; listen?: string; data?: string }> {
  const file = path.resolve(cwd, env.BERTH_CONFIG || 'berth.yaml')
  const folder = path.dirname(file)
  if (!existsSync(file)) return { folder }
  const { parse } = await import('yaml')
  try {
    const document: unknown = parse(readFileSync(file, 'utf8'), { logLevel: 'silent' })
    if (typeof document !== 'object' || document === null) return { folder }
    const { listen, data } = document as { listen?: unknown; data?: unknown }
    return {
      folder,
      ...(typeof listen === 'string' || typeof listen === 'number'
        ? { listen: withVariables(String(listen), env) }
        : {}),
      ...(typeof data === 'string' ? { data: withVariables(data, env) } : {}),
    }
  } catch {
    return { folder }
  }
}

function withVariables(text: string, env: Environment): string {
  return text.replaceAll(/\$\{(\w+)\}/g, (_, name: string) => env[name] ?? '')
}
