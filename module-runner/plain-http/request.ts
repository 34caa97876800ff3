/**
 * Plain requests: a POST with a JSON body of known length and nothing else that needs interpretation. Whatever is not
 * certainly one is left to `node:http`: this reader refuses nothing, and accepts less than RFC 9112 does.
 */
export interface PlainRequest {
  /** Without query, and nothing in it is percent-encoded. */
  readonly path: string
  readonly headers: PlainHeaders
  readonly body: Buffer
}

/** Lower-case names; no name comes twice. */
export type PlainHeaders = Readonly<Record<string, string | undefined>>

interface Head {
  readonly bytes: Buffer
  readonly path: string
  readonly headers: PlainHeaders
  readonly bodyBytes: number
}

const start = Buffer.from('POST /')
const headEnd = Buffer.from('\r\n\r\n')
const longestHead = 8 * 1024
const longestBody = 128 * 1024

/** Request line and headers. A client's odd spacing, folded lines and bare line ends are nothing to guess about. */
const plainHead = /^POST (\/[\w./:@=,+~-]*) HTTP\/1\.1\r\n((?:[\w-]+:[\t\x20-\x7e]*\r\n)+)\r\n$/
const decimal = /^(?:0|[1-9]\d{0,8})$/
/** With these a request's framing, or its connection, is more than plain. */
const special = ['transfer-encoding', 'expect', 'upgrade', 'te', 'trailer', 'content-encoding', 'proxy-connection']

/** Reads the requests of one connection, of which most begin with the same head: it is read once. */
export class PlainReader {
  #last: Head | undefined

  /** `more`: it may become a plain request; `other`: it will not. */
  read(bytes: Buffer): PlainRequest | 'more' | 'other' {
    const head = this.#head(bytes)
    if (typeof head === 'string') return head
    this.#last = head
    const end = head.bytes.length + head.bodyBytes
    if (bytes.length < end) return 'more'
    if (bytes.length > end) return 'other'
    return { path: head.path, headers: head.headers, body: bytes.subarray(head.bytes.length) }
  }

  #head(bytes: Buffer): Head | 'more' | 'other' {
    const last = this.#last
    if (last !== undefined && begins(bytes, last.bytes)) return last
    if (!begins(bytes, start)) return bytes.length < start.length && begins(start, bytes) ? 'more' : 'other'
    const end = bytes.indexOf(headEnd)
    if (end === -1) return bytes.length < longestHead ? 'more' : 'other'
    if (end > longestHead) return 'other'
    return parseHead(bytes.subarray(0, end + headEnd.length)) ?? 'other'
  }
}

function parseHead(bytes: Buffer): Head | undefined {
  const [, path, lines] = plainHead.exec(bytes.toString('latin1')) ?? []
  if (path === undefined || lines === undefined) return undefined
  const headers: Record<string, string> = {}
  for (let at = 0; at < lines.length; ) {
    const colon = lines.indexOf(':', at)
    const end = lines.indexOf('\r', colon)
    const name = lines.slice(at, colon).toLowerCase()
    // Twice, or a name that every object has.
    if (headers[name] !== undefined) return undefined
    headers[name] = lines.slice(colon + 1, end).trim()
    at = end + 2
  }
  const length = headers['content-length'] ?? ''
  if (!decimal.test(length) || Number(length) > longestBody || headers.host === undefined) return undefined
  if ((headers.connection ?? 'keep-alive').toLowerCase() !== 'keep-alive') return undefined
  if (special.some((name) => headers[name] !== undefined)) return undefined
  return { bytes, path, headers, bodyBytes: Number(length) }
}

function begins(bytes: Buffer, prefix: Buffer): boolean {
  return bytes.length >= prefix.length && prefix.compare(bytes, 0, prefix.length) === 0
}
