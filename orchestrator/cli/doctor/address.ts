import { createServer } from 'node:net'
import type { ApiClient } from '../client.ts'
import { isHealthy, readiness } from '../probe.ts'
import type { Target } from '../target.ts'
import type { Check } from './check.ts'

/** Is Berth up, and if not, can it listen where it would? */
export async function checkAddress(api: ApiClient, target: Target, signal: AbortSignal): Promise<Check> {
  const name = 'berth'
  if (await isHealthy(api, signal)) {
    const state = await readiness(api, signal)
    if (state.ready) return { name, level: 'ok', message: `up at ${target.url}` }
    return { name, level: 'fail', message: `up at ${target.url} but not ready: ${state.reason}` }
  }
  if (target.url !== target.localUrl) {
    return {
      name,
      level: 'fail',
      message: `nothing answers at ${target.url}`,
      remedy: 'Start Berth there, or correct BERTH_URL.',
    }
  }
  const url = new URL(target.url)
  const code = await tryListen(url.hostname.replace(/^\[|\]$/g, ''), Number(url.port || 80))
  if (code === undefined) return { name, level: 'ok', message: `not running; ${url.host} is free` }
  return {
    name,
    level: 'fail',
    message:
      code === 'EADDRINUSE' ? `another program holds ${url.host}` : `${url.host} can not be listened on (${code})`,
    remedy: 'End that program, or choose another address with BERTH_LISTEN=127.0.0.1:PORT.',
  }
}

function tryListen(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(undefined)))
  })
}
