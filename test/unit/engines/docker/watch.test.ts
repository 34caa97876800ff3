import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { connectionFrom } from '../../../../orchestrator/engines/docker/connection.ts'
import { Daemon } from '../../../../orchestrator/engines/docker/daemon.ts'
import { watchWorkloads } from '../../../../orchestrator/engines/docker/watch.ts'
import type { WorkloadEvent } from '../../../../orchestrator/engines/engine.ts'

/** A daemon that answers nothing but its version and its events, which the test writes. */
describe('the event stream', () => {
  let folder: string
  let server: Server
  let streams: ServerResponse[]
  let daemon: Daemon
  let stop: AbortController
  const path = (): string => join(folder, 'docker.sock')

  const listen = async (): Promise<void> => {
    server = createServer((request, reply) => {
      if (request.url?.includes('/events')) {
        reply.flushHeaders()
        streams.push(reply)
      } else reply.end('{"ApiVersion":"1.45","Version":"26","Arch":"amd64"}')
    })
    await new Promise<void>((resolve) => server.listen(path(), resolve))
  }
  const close = async (): Promise<void> => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'berth-events-'))
    streams = []
    stop = new AbortController()
    await listen()
    daemon = await Daemon.open(connectionFrom({ DOCKER_HOST: `unix://${path()}` }), AbortSignal.timeout(5_000))
  })
  afterEach(async () => {
    stop.abort()
    daemon.close()
    await close()
    await rm(folder, { recursive: true })
  })

  function watch(silenceMs = 60_000): { readonly seen: WorkloadEvent[]; readonly ended: Promise<void> } {
    const seen: WorkloadEvent[] = []
    const ended = (async () => {
      for await (const event of watchWorkloads(
        { daemon, instance: 'i', silenceMs, warn: () => undefined },
        stop.signal,
      ))
        seen.push(event)
    })()
    return { seen, ended }
  }
  const resyncs = (seen: readonly WorkloadEvent[]): number => seen.filter(({ kind }) => kind === 'resync').length

  it('tells whose state changed; an event without an id may concern any', async () => {
    const { seen, ended } = watch()
    await vi.waitFor(() => expect(streams).toHaveLength(1))
    streams[0]?.write('{"Type":"container","Action":"die","Actor":{"ID":"abc"}}\n{"Type":"container","Action":"die"}\n')
    await vi.waitFor(() =>
      expect(seen).toEqual([{ kind: 'resync' }, { kind: 'changed', id: 'abc' }, { kind: 'resync' }]),
    )
    stop.abort()
    await ended
  })

  it('is opened anew when it breaks, with a resync', async () => {
    const { seen } = watch()
    await vi.waitFor(() => expect(resyncs(seen)).toBe(1))
    streams[0]?.destroy()
    await vi.waitFor(() => expect(streams).toHaveLength(2), { timeout: 5_000 })
    await vi.waitFor(() => expect(resyncs(seen)).toBe(2))
    streams[1]?.end()
    await vi.waitFor(() => expect(resyncs(seen)).toBe(3), { timeout: 5_000 })
  })

  it('is opened anew when it has been silent for long', async () => {
    const { seen } = watch(30)
    await vi.waitFor(() => expect(streams.length).toBeGreaterThan(2), { timeout: 5_000 })
    await vi.waitFor(() => expect(resyncs(seen)).toBeGreaterThan(2))
  })

  it('waits for a daemon that is away', async () => {
    await close()
    const { seen } = watch()
    await vi.waitFor(() => expect(resyncs(seen)).toBe(1))
    await listen()
    await vi.waitFor(() => expect(resyncs(seen)).toBeGreaterThan(1), { timeout: 5_000 })
  })
})
