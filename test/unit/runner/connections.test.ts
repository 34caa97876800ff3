import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { Connections, type Exchange } from '../../../orchestrator/runner/connections.ts'
import { temporaryFolder } from '../http/fake-services.ts'

/** A server whose bytes are in the test's hand, and connections to it. */
async function wired(answer: (socket: Socket, request: string) => void) {
  const path = join(await temporaryFolder(), 'server.sock')
  const sockets: Socket[] = []
  const server = createServer((socket) => {
    sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (bytes) => answer(socket, bytes.toString()))
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  const connections = new Connections({ kind: 'unix', path }, 'POST /infer HTTP/1.1\r\nhost: runner\r\n')
  onTestFinished(async () => {
    connections.close()
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  })
  return { connections, sockets }
}

/** One exchange and what came of it. */
function ask(connections: Connections, body = '{}') {
  const outcome = Promise.withResolvers<string>()
  const parts: string[] = []
  const exchange: Exchange = {
    onBody(_status, bytes) {
      parts.push(bytes.toString())
      return true
    },
    onComplete: (status) => outcome.resolve(`${status} ${parts.join('')}`),
    onBroken: (status, error) => outcome.resolve(`${status} ${error.message}`),
  }
  const connection = connections.send('x-request-id: r\r\n', body, exchange)
  return { outcome: outcome.promise, connection }
}

const ok = (more = '') => `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n${more}\r\nok`

describe('connections to a runner', () => {
  it('send head, headers and body, and are used again one after the other', async () => {
    const seen: string[] = []
    const { connections, sockets } = await wired((socket, request) => {
      seen.push(request)
      socket.write(ok())
    })
    for (let count = 0; count < 5; count += 1) expect(await ask(connections, '{"ü":1}').outcome).toBe('200 ok')
    expect(sockets).toHaveLength(1)
    const head = 'POST /infer HTTP/1.1\r\nhost: runner\r\nx-request-id: r\r\ncontent-length: 8\r\n\r\n'
    expect(seen).toEqual(Array(5).fill(`${head}{"ü":1}`))
  })

  it('are not used again when the server closes them, says so, or said nothing sensible', async () => {
    for (const answer of [ok('connection: close\r\n'), `${ok()}garbage`]) {
      const { connections, sockets } = await wired((socket) => void socket.write(answer))
      expect(await ask(connections).outcome).toBe('200 ok')
      expect(await ask(connections).outcome).toBe('200 ok')
      expect(sockets).toHaveLength(2)
    }
  })

  it('are not used again after the time that the server keeps them', async () => {
    const { connections, sockets } = await wired((socket) => void socket.write(ok('keep-alive: timeout=10\r\n')))
    const now = vi.spyOn(performance, 'now')
    onTestFinished(() => now.mockRestore())
    expect(await ask(connections).outcome).toBe('200 ok')
    const later = performance.now() + 9_500
    now.mockReturnValue(later)
    expect(await ask(connections).outcome).toBe('200 ok')
    expect(sockets).toHaveLength(2)
  })

  it('that get bytes while nobody asks are closed', async () => {
    const { connections, sockets } = await wired((socket) => void socket.write(ok()))
    expect(await ask(connections).outcome).toBe('200 ok')
    sockets[0]?.write('HTTP/1.1 408 Request Timeout\r\n\r\n')
    await vi.waitFor(() => expect(sockets[0]?.readyState).not.toBe('open'))
    expect(await ask(connections).outcome).toBe('200 ok')
    expect(sockets).toHaveLength(2)
  })

  it('break with what they carry when they are closed, and send nothing more', async () => {
    const { connections, sockets } = await wired(() => {})
    const asked = ask(connections)
    await vi.waitFor(() => expect(sockets).toHaveLength(1))
    connections.close()
    expect(await asked.outcome).toBe('0 the connection was closed')
    expect(ask(connections).connection).toBeUndefined()
  })

  it('that are answered with something else say what is wrong', async () => {
    const { connections } = await wired((socket) => void socket.write('SSH-2.0-OpenSSH_9.2\r\n\r\n'))
    expect(await ask(connections).outcome).toBe('0 its answer is not HTTP/1.1')
  })

  it('carry a body of megabytes, and are closed when it was not all taken', async () => {
    let size = 0
    const { connections } = await wired((socket, request) => {
      size += request.length
      if (size > 5_000_000) socket.write(ok())
    })
    expect(await ask(connections, `"${'x'.repeat(5_000_000)}"`).outcome).toBe('200 ok')
    const early = await wired((socket) => {
      socket.pause()
      socket.write(ok())
    })
    expect(await ask(early.connections, `"${'x'.repeat(5_000_000)}"`).outcome).toBe('200 ok')
    expect(await ask(early.connections).outcome).toBe('200 ok')
    expect(early.sockets).toHaveLength(2)
  })
})
