import { once } from 'node:events'
import { connect } from 'node:net'
import { benchModule, startBerth } from '../berth.ts'
import type { Comparison } from '../comparison.ts'
import { memoryOf } from '../processes.ts'

/** 256 MiB that a client reads at 1 MiB/s: nobody on the way may hold what the client has not read. */
const mebibyte = 1024 * 1024
const totalMebibytes = 256
const bytesPerSecond = mebibyte
const tickMs = 50
const partSeconds = 20

export const slowReader: Comparison = {
  name: 'slow-reader',
  about: 'growth of orchestrator, runner and worker while a client reads 256 MiB at 1 MiB/s',
  async run({ full, say }) {
    const berth = await startBerth({ engine: 'process', models: { blob: { module: 'blob' } } })
    try {
      await berth.addModule('blob', benchModule('blob'))
      // What is loaded lazily, and buffers that are kept, are there after it.
      await berth.infer('blob', { mib: 8 })
      const pids = { orchestrator: berth.pid, ...berth.processes() }
      const sizes = () => Object.entries(pids).map(([name, pid]) => [name, memoryOf(pid).rss] as const)
      const before = Object.fromEntries(sizes())
      const most: Record<string, number> = { ...before }
      const seconds = full ? totalMebibytes : partSeconds
      say(`slow-reader: reading for ${seconds} s`)
      await readSlowly(berth.url, seconds, () => {
        for (const [name, size] of sizes()) most[name] = Math.max(most[name] ?? 0, size)
      })
      return Object.keys(pids).map((name) => ({
        what: `slow reader (${seconds} s): growth of the ${name}`,
        unit: 'MiB',
        berth: ((most[name] ?? Number.NaN) - (before[name] ?? Number.NaN)) / mebibyte,
        target: { of: 'value', at: 'most', bound: 32 },
      }))
    } finally {
      await berth.close()
    }
  },
}

/** Reads for so long, then leaves; `sample` is called all the while. */
async function readSlowly(url: string, seconds: number, sample: () => void): Promise<void> {
  const { port, hostname, host } = new URL(url)
  const body = JSON.stringify({ parameters: { mib: totalMebibytes } })
  const socket = connect({ host: hostname, port: Number(port) })
  await once(socket, 'connect')
  socket.pause()
  socket.write(
    `POST /api/models/blob/infer HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
  )
  let read = 0
  const began = performance.now()
  try {
    while (performance.now() - began < seconds * 1_000) {
      await new Promise((resolve) => setTimeout(resolve, tickMs))
      const due = ((performance.now() - began) / 1_000) * bytesPerSecond
      while (read < due) {
        const bytes: Buffer | null = socket.read()
        if (bytes === null) break
        read += bytes.length
      }
      sample()
      if (socket.readableEnded) break
    }
  } finally {
    socket.destroy()
  }
  const expected = Math.min(seconds, totalMebibytes) * bytesPerSecond * 0.9
  if (read < expected) throw new Error(`only ${Math.round(read / mebibyte)} MiB could be read in ${seconds} s`)
}
