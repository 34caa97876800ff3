import type { ListenAddress } from './config.ts'

/** `host:port`, `[::1]:8080`, `:8080` (every address) or a port alone (loopback); undefined when it is none of these. */
export function parseListen(text: string | number): ListenAddress | undefined {
  const written = String(text).trim()
  const match = /^(?:(\[[0-9a-fA-F:.]+\]|[^:\s[\]]*):)?(\d{1,5})$/.exec(written)
  if (match === null) return undefined
  const port = Number(match[2])
  if (port > 65_535) return undefined
  const host = match[1]
  if (host === undefined) return { host: '127.0.0.1', port }
  return { host: host === '' || host === '*' ? '0.0.0.0' : host.replace(/^\[|\]$/g, ''), port }
}

/** Whether only this machine reaches the address: a name or an IP, IPv6 with or without brackets. */
export function isLoopback(host: string): boolean {
  const name = host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/^::ffff:/, '')
  return name === 'localhost' || name.endsWith('.localhost') || name === '::1' || /^127(\.\d{1,3}){3}$/.test(name)
}
