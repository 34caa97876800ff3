import type { IncomingHttpHeaders } from 'node:http'
import { isLoopback } from '../../config/address.ts'
import { BerthError } from '../../domain/errors.ts'

/**
 * Holds web pages off a Berth without keys. A page whose host name was pointed at 127.0.0.1 (DNS rebinding) shows in
 * `Host`, a page from elsewhere that sends a request shows in `Origin`.
 */
export interface HostCheck {
  /** Throws FORBIDDEN with what to add to the configuration. */
  check(headers: IncomingHttpHeaders): void
}

/** `allowed`: `name` (any port) or `name:port`, beside the loopback names. */
export function createHostCheck(allowed: readonly string[]): HostCheck {
  const configured = new Set(allowed.map((name) => name.toLowerCase()))
  const isConfigured = (host: string): boolean => configured.has(host) || configured.has(withoutPort(host))
  let lastHost: string | undefined

  return {
    check(headers) {
      const host = headers.host?.toLowerCase() ?? ''
      if (host !== lastHost) {
        if (!isLoopback(withoutPort(host)) && !isConfigured(host)) throw strangeHost(host.slice(0, 100))
        lastHost = host
      }
      const origin = headers.origin
      if (origin === undefined) return
      const from = originHost(origin)
      if (from === undefined || (from !== host && !isConfigured(from))) throw strangeOrigin(origin.slice(0, 100))
    },
  }
}

function strangeHost(host: string): BerthError {
  const name = JSON.stringify(withoutPort(host))
  return new BerthError('FORBIDDEN', `Host ${JSON.stringify(host)} is none that this Berth answers to.`, {
    field: 'host',
    remedy: `Open Berth as http://localhost or http://127.0.0.1, or add ${name} to \`allowed_hosts\` in berth.yaml.`,
  })
}

function strangeOrigin(origin: string): BerthError {
  return new BerthError('FORBIDDEN', `Requests from web pages of ${JSON.stringify(origin)} are not let in.`, {
    field: 'origin',
    remedy: 'Open the page from Berth itself, or add its host to `allowed_hosts` in berth.yaml.',
  })
}

function withoutPort(host: string): string {
  return host.replace(/:\d*$/, '')
}

/** Host and port of an origin such as `http://localhost:8080`; undefined for `null` and anything odd. */
function originHost(origin: string): string | undefined {
  return /^https?:\/\/([^/\s@]+)$/.exec(origin.toLowerCase())?.[1]
}
