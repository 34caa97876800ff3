/**
 * The part of Node's ServerResponse that streams of inference are written with: whoever writes them does not know whether the
 * request came through `node:http` or as a plain one.
 */
export interface Reply {
  readonly headersSent: boolean
  readonly destroyed: boolean
  readonly writableEnded: boolean
  /** Everything has been given to the system. */
  readonly writableFinished: boolean
  writeHead(status: number, headers: Readonly<Record<string, string | number>>): unknown
  /** False: wait for `drain`. */
  write(data: Buffer | string): boolean
  write(data: Buffer | string, encoding: 'latin1'): boolean
  end(data?: Buffer | string): unknown
  /** Before the end; the head has named them. */
  addTrailers(headers: Readonly<Record<string, string>>): unknown
  /** `close` comes once: when it is finished, or when the connection has broken. */
  on(event: 'close' | 'drain', listener: () => void): unknown
  once(event: 'close' | 'drain', listener: () => void): unknown
  destroy(): unknown
}
