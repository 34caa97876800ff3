import { once } from 'node:events'
import { createServer } from 'node:http'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, expect, it, onTestFinished } from 'vitest'
import { Daemon } from '../../../../orchestrator/engines/docker/daemon.ts'
import { tempFolder } from '../../../support/temp-folder.ts'

afterEach(() => {
  Reflect.deleteProperty(Socket.prototype, inspect.custom)
})

it('a call costs the same however many connections are open', async () => {
  const socketPath = join(tempFolder(), 'docker.sock')
  const server = createServer((request, answer) => {
    if (request.url?.includes('/events') === true) answer.write('{}\n')
    else
      answer.end(request.url?.endsWith('/version') ? '{"Version":"26.1.5","ApiVersion":"1.45","Arch":"amd64"}' : 'OK')
  }).listen(socketPath)
  await once(server, 'listening')
  const signal = AbortSignal.timeout(10_000)
  const daemon = await Daemon.open({ kind: 'unix', socketPath, address: `unix://${socketPath}` }, signal)
  onTestFinished(() => {
    daemon.close()
    server.closeAllConnections()
    server.close()
  })
  for (let count = 0; count < 3; count += 1) await daemon.events({}, signal)

  // The client library renders what it sends, to whatever depth: what it meets there, it pays for.
  let rendered = 0
  Object.assign(Socket.prototype, {
    [inspect.custom]() {
      rendered += 1
      return 'a connection'
    },
  })
  await daemon.ping(signal)
  expect(rendered).toBe(0)
})
