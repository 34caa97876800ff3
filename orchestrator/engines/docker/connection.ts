import { existsSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { BerthError } from '../../domain/errors.ts'

/** Where the daemon is, as DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH say it. */
export type Connection =
  | { readonly kind: 'unix'; readonly address: string; readonly socketPath: string }
  | {
      readonly kind: 'tcp'
      readonly address: string
      readonly host: string
      readonly port: number
      readonly tls?: { readonly ca: string; readonly cert: string; readonly key: string }
    }

type Variables = Readonly<Record<string, string | undefined>>

const defaultSocket = '/var/run/docker.sock'

/** Rejects nothing that could work; throws ENGINE_UNAVAILABLE for what can't, naming the variable. */
export function connectionFrom(env: Variables): Connection {
  const host = env.DOCKER_HOST ?? ''
  if (host === '') return unix(firstSocket(env))
  if (host.startsWith('unix://')) return unix(host.slice('unix://'.length) || defaultSocket)
  if (host.startsWith('/')) return unix(host)
  return tcp(host, env)
}

function unix(socketPath: string): Connection {
  return { kind: 'unix', address: `unix://${socketPath}`, socketPath }
}

/** The system's daemon, else one of this user: Docker Desktop's, a rootless one's. */
function firstSocket(env: Variables): string {
  const runtime = env.XDG_RUNTIME_DIR
  const candidates = [
    defaultSocket,
    join(env.HOME ?? homedir(), '.docker/run/docker.sock'),
    ...(runtime === undefined || runtime === '' ? [] : [join(runtime, 'docker.sock')]),
  ]
  return candidates.find((path) => existsSync(path)) ?? defaultSocket
}

function tcp(text: string, env: Variables): Connection {
  const url = URL.parse(text.includes('://') ? text : `tcp://${text}`)
  if (url === null || !['tcp:', 'http:', 'https:'].includes(url.protocol) || url.hostname === '') {
    throw new BerthError('ENGINE_UNAVAILABLE', `DOCKER_HOST=${text} is no address that Berth can use`, {
      field: 'DOCKER_HOST',
      remedy: 'use unix:///path or tcp://host:port; for SSH, forward the socket (`ssh -L`) and name that',
    })
  }
  const wantsTls = (env.DOCKER_TLS_VERIFY ?? '') !== '' || url.protocol === 'https:'
  const port = url.port === '' ? (wantsTls ? 2376 : 2375) : Number(url.port)
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1')
  const address = `tcp://${url.hostname}:${port}`
  return { kind: 'tcp', address, host, port, ...(wantsTls ? { tls: certificates(env) } : {}) }
}

function certificates(env: Variables): { ca: string; cert: string; key: string } {
  const folder = env.DOCKER_CERT_PATH || join(env.DOCKER_CONFIG || join(env.HOME ?? homedir(), '.docker'))
  const read = (name: string): string => {
    try {
      return readFileSync(join(folder, name), 'utf8')
    } catch (cause) {
      throw new BerthError(
        'ENGINE_UNAVAILABLE',
        `Docker is to be reached by TLS, and ${join(folder, name)} can't be read`,
        { field: 'DOCKER_CERT_PATH', remedy: 'point DOCKER_CERT_PATH at a folder with ca.pem, cert.pem and key.pem' },
        { cause },
      )
    }
  }
  return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') }
}
