const headEnd = Buffer.from('\r\n\r\n')
const longestHead = 64 * 1024
const longestLine = 8 * 1024
const lineFeed = 0x0a
const carriageReturn = 0x0d

/** What the next byte belongs to. */
type Place = 'head' | 'length' | 'close' | 'size' | 'chunk' | 'chunk-end' | 'trailer' | 'over'

/**
 * Reads one HTTP/1.1 answer (RFC 9112) from the bytes of its connection, wherever they are cut, and gives its body's bytes
 * as they come. A body ends by its length, by its last chunk, or with the connection.
 */
export class AnswerReader {
  /** 0 before the head has come. */
  status = 0
  /** For how long the connection can be used again, as the server says; 0: not at all. */
  reusableMs = 0
  #place: Place = 'head'
  /** Bytes to come: of the body, of the chunk; while its size is being read, the size so far. */
  #left = 0
  /** An incomplete head. */
  #held: Buffer | undefined
  /** Characters of the line that is being read: of a chunk's size, of a trailer. */
  #line = 0
  #extension = false

  /** The answer is complete. */
  get over(): boolean {
    return this.#place === 'over'
  }

  /** The body's bytes among these, as a copy; undefined when there are none. Throws on what is no HTTP/1.1 answer. */
  push(read: Buffer): Buffer | undefined {
    const bytes = this.#held === undefined ? read : Buffer.concat([this.#held, read])
    this.#held = undefined
    let first: Buffer | undefined
    let more: Buffer[] | undefined
    let at = 0
    while (at < bytes.length) {
      switch (this.#place) {
        case 'head':
          at = this.#readHead(bytes, at)
          break
        case 'length':
        case 'chunk':
        case 'close': {
          const end = this.#place === 'close' ? bytes.length : Math.min(bytes.length, at + this.#left)
          this.#left -= end - at
          const piece = bytes.subarray(at, end)
          if (first === undefined) first = piece
          else if (more === undefined) more = [first, piece]
          else more.push(piece)
          at = end
          if (this.#left === 0) this.#place = this.#place === 'length' ? 'over' : 'chunk-end'
          break
        }
        case 'over':
          // More than was asked for: this connection is not to be trusted with another request.
          this.reusableMs = 0
          at = bytes.length
          break
        default:
          at = this.#readFraming(bytes, at)
      }
    }
    return more === undefined ? first && Buffer.from(first) : Buffer.concat(more)
  }

  /** The connection has ended. True: and so has the answer. */
  end(): boolean {
    if (this.#place === 'close') this.#place = 'over'
    return this.over
  }

  #readHead(bytes: Buffer, at: number): number {
    const end = bytes.indexOf(headEnd, at)
    if (end === -1 || end - at > longestHead) {
      if (bytes.length - at > longestHead) throw new Error('the head of its answer does not end')
      this.#held = Buffer.from(bytes.subarray(at))
      return bytes.length
    }
    this.#take(bytes.toString('latin1', at, end).split('\r\n'))
    return end + headEnd.length
  }

  #take(lines: readonly string[]): void {
    const [, version, code] = /^HTTP\/1\.([01]) (\d{3})/.exec(lines[0] ?? '') ?? []
    if (code === undefined) throw new Error('its answer is not HTTP/1.1')
    const status = Number(code)
    if (status < 200) return
    let length: string | undefined
    let coding: string | undefined
    let close = version === '0'
    let keepAliveMs = defaultKeepAliveMs
    for (let index = 1; index < lines.length; index += 1) {
      const line = lines[index] ?? ''
      const colon = line.indexOf(':')
      const value = line.slice(colon + 1).trim()
      switch (line.slice(0, colon).toLowerCase()) {
        case 'content-length':
          if (!/^\d{1,15}$/.test(value) || (length !== undefined && length !== value)) {
            throw new Error('the length of its answer makes no sense')
          }
          length = value
          break
        case 'transfer-encoding':
          coding = value.toLowerCase()
          break
        case 'connection':
          close = value.toLowerCase() === 'close' || (close && value.toLowerCase() !== 'keep-alive')
          break
        case 'keep-alive':
          keepAliveMs = keepAliveOf(value)
      }
    }
    this.status = status
    this.#left = 0
    if (coding !== undefined) this.#place = coding === 'chunked' ? 'size' : 'close'
    else if (status === 204 || status === 304 || length === '0') this.#place = 'over'
    else if (length === undefined) this.#place = 'close'
    else {
      this.#place = 'length'
      this.#left = Number(length)
    }
    if (this.#place === 'close') this.#left = Number.POSITIVE_INFINITY
    else if (!close) this.reusableMs = keepAliveMs
  }

  /** One byte of what lies between chunks. */
  #readFraming(bytes: Buffer, at: number): number {
    const byte = bytes[at] ?? 0
    if (byte === carriageReturn) return at + 1
    if (byte === lineFeed) {
      this.#endLine()
      return at + 1
    }
    this.#line += 1
    if (this.#line > longestLine || this.#place === 'chunk-end')
      throw new Error('the chunks of its answer make no sense')
    if (this.#place === 'size' && !this.#extension) {
      const digit = hexDigit(byte)
      if (digit >= 0) this.#left = this.#left * 16 + digit
      else this.#extension = true
      if (this.#line === 1 && digit < 0) throw new Error('a chunk of its answer has no size')
      if (this.#left > Number.MAX_SAFE_INTEGER) throw new Error('a chunk of its answer is too large')
    }
    return at + 1
  }

  #endLine(): void {
    const empty = this.#line === 0
    this.#line = 0
    this.#extension = false
    if (this.#place === 'chunk-end') this.#place = 'size'
    else if (this.#place === 'trailer') this.#place = empty ? 'over' : 'trailer'
    else if (empty) throw new Error('a chunk of its answer has no size')
    else this.#place = this.#left === 0 ? 'trailer' : 'chunk'
  }
}

/** For servers that do not say; most wait at least five seconds. */
const defaultKeepAliveMs = 4_000
const longestKeepAliveMs = 60_000
/** So much earlier than the server we let go of a connection. */
const marginMs = 1_000

function keepAliveOf(value: string): number {
  const seconds = /timeout=(\d+)/i.exec(value)?.[1]
  if (seconds === undefined) return defaultKeepAliveMs
  return Math.min(longestKeepAliveMs, Math.max(0, Number(seconds) * 1_000 - marginMs))
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1
}
