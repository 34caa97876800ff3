import { readFileSync } from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import path from 'node:path'
import { isJsonObject, type JsonObject } from '../../domain/json.ts'
import type { Environment } from '../target.ts'
import type { Check } from './check.ts'

export interface DockerFinding {
  readonly check: Check
  readonly answers: boolean
  /** The daemon can hand NVIDIA GPUs to containers. */
  readonly nvidia: boolean
}

const timeoutMs = 5_000

/** Does Docker answer? `wanted` is the engine that was asked for: without Docker `auto` takes the embedded one. */
export async function checkDocker(env: Environment, wanted: string, signal: AbortSignal): Promise<DockerFinding> {
  const host = env.DOCKER_HOST || 'unix:///var/run/docker.sock'
  try {
    const [version, info] = await Promise.all([ask(env, host, '/version', signal), ask(env, host, '/info', signal)])
    const linux = info.OSType === undefined || info.OSType === 'linux'
    return {
      answers: linux,
      nvidia: knowsNvidia(info),
      check: {
        name: 'engine',
        level: linux ? 'ok' : 'fail',
        message: `Docker ${version.Version} (API ${version.ApiVersion}, ${info.OSType}/${info.Architecture}) at ${host}`,
        ...(linux ? {} : { remedy: 'Switch Docker to Linux containers.' }),
      },
    }
  } catch (error) {
    const check = { name: 'engine', ...missing(host, error, wanted) }
    return { answers: false, nvidia: false, check }
  }
}

function knowsNvidia(info: JsonObject): boolean {
  if (isJsonObject(info.Runtimes) && 'nvidia' in info.Runtimes) return true
  return /nvidia\.com\/gpu/.test(JSON.stringify(info.DiscoveredDevices ?? ''))
}

function missing(host: string, error: unknown, wanted: string): Omit<Check, 'name'> {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const reason = code || (error instanceof Error ? error.message : String(error))
  const denied = code === 'EACCES' || code === 'EPERM'
  if (wanted === 'process')
    return { level: 'ok', message: 'the embedded engine, as asked for: modules run without isolation' }
  return {
    level: wanted === 'auto' ? 'warn' : 'fail',
    message: `${denied ? `Docker's socket ${host} may not be used by this user` : `Docker does not answer at ${host} (${reason})`}${
      wanted === 'auto' ? ': the embedded engine is used, and modules run without isolation' : ''
    }`,
    remedy: denied
      ? 'Add the user to the group of the socket (`sudo usermod -aG docker $USER`) and log in again.'
      : 'Install and start Docker Engine, or say in DOCKER_HOST where it is.',
  }
}

function ask(env: Environment, host: string, call: string, signal: AbortSignal): Promise<JsonObject> {
  return new Promise((resolve, reject) => {
    const options = { path: call, timeout: timeoutMs, signal, ...address(env, host) }
    const request = (isTls(env, host) ? https : http).get(options, (answer) => {
      const parts: string[] = []
      answer.setEncoding('utf8').on('data', (part: string) => parts.push(part))
      answer.on('error', reject)
      answer.on('end', () => {
        try {
          if (answer.statusCode !== 200) throw new Error(`status ${answer.statusCode}`)
          resolve(JSON.parse(parts.join('')) as JsonObject)
        } catch (error) {
          reject(error)
        }
      })
    })
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)))
    request.on('error', reject)
  })
}

function isTls(env: Environment, host: string): boolean {
  return host.startsWith('https:') || (host.startsWith('tcp:') && Boolean(env.DOCKER_TLS_VERIFY))
}

function address(env: Environment, host: string): https.RequestOptions {
  if (host.startsWith('unix://')) return { socketPath: host.slice('unix://'.length) }
  const url = URL.parse(host)
  if (url === null || !/^(tcp|https?):$/.test(url.protocol))
    throw new Error(`${host} can only be checked by Docker itself`)
  const folder = env.DOCKER_CERT_PATH
  const file = (name: string): Buffer => readFileSync(path.join(folder ?? '', name))
  return {
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port || (isTls(env, host) ? 2376 : 2375),
    ...(folder && isTls(env, host) ? { ca: file('ca.pem'), cert: file('cert.pem'), key: file('key.pem') } : {}),
  }
}
