import { rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** A socket before the engine's own, which a test breaks and mends while the engine itself goes on for everybody else. */
export interface DockerProxy {
  /** For DOCKER_HOST. */
  readonly address: string
  /** As when the daemon ends: every connection breaks, and there is no socket any more. */
  lose(): Promise<void>
  mend(): Promise<void>
  close(): Promise<void>
}

export async function dockerProxy(path: string, engine = '/var/run/docker.sock'): Promise<DockerProxy> {
  const sockets = new Set<Socket>()
  let server: Server | undefined

  const keep = (socket: Socket): void => {
    sockets.add(socket)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => sockets.delete(socket))
  }
  async function mend(): Promise<void> {
    // Half-open connections stay so: the engine's attach and session calls use them.
    const opened = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ path: engine, allowHalfOpen: true })
      keep(near)
      keep(far)
      near.on('close', () => far.destroy())
      far.on('close', () => near.destroy())
      near.pipe(far).pipe(near)
    })
    await new Promise<void>((resolve, reject) => opened.once('error', reject).listen(path, resolve))
    server = opened
  }
  async function lose(): Promise<void> {
    const closing = server
    server = undefined
    for (const socket of sockets) socket.destroy()
    await new Promise<void>((resolve) => (closing === undefined ? resolve() : closing.close(() => resolve())))
    rmSync(path, { force: true })
  }
  await mend()
  return { address: `unix://${path}`, lose, mend, close: lose }
}
