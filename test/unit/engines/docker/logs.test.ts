import { expect, it } from 'vitest'
import { frames, timedLines } from '../../../../orchestrator/engines/docker/logs.ts'

function frame(stream: 1 | 2, text: string | Buffer): Buffer {
  const payload = Buffer.from(text)
  const head = Buffer.alloc(8)
  head[0] = stream
  head.writeUInt32BE(payload.length, 4)
  return Buffer.concat([head, payload])
}

/** All bytes, cut at every `size`. */
async function* cut(bytes: Buffer, size: number): AsyncIterable<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const item of items) all.push(item)
  return all
}

const stamp = '2026-01-02T03:04:05.678901234Z'
const at = { timeMs: Date.parse(stamp), position: stamp }

it.each([1, 7, 8, 9, 1000])('frames come out whole, whatever the pieces they arrive in: %i bytes', async (size) => {
  const sent = Buffer.concat([frame(1, 'one\n'), frame(2, 'two\n'), frame(1, '')])
  const got = (await collect(frames(cut(sent, size)))).map(({ stream, payload }) => `${stream} ${payload.toString()}`)
  expect(got).toEqual(['stdout one\n', 'stderr two\n', 'stdout '])
})

it('what is not multiplexed is refused', async () => {
  await expect(collect(frames(cut(Buffer.from('a plain line, and another plain line\n'), 64)))).rejects.toThrow()
})

it('lines carry their time, and parts of one line are joined', async () => {
  const euro = Buffer.from('€')
  const sent = Buffer.concat([
    frame(1, Buffer.concat([Buffer.from(`${stamp} half `), euro.subarray(0, 1)])),
    frame(2, `${stamp} between\n`),
    frame(1, Buffer.concat([Buffer.from(`${stamp} `), euro.subarray(1), Buffer.from(' done\n')])),
    frame(1, `${stamp} without an end`),
  ])
  expect(await collect(timedLines(cut(sent, 5)))).toEqual([
    { stream: 'stderr', text: 'between', ...at },
    { stream: 'stdout', text: 'half € done', ...at },
    { stream: 'stdout', text: 'without an end', ...at },
  ])
})

it('lines are bounded', async () => {
  const sent = Array.from({ length: 20 }, () => frame(1, `${stamp} ${'x'.repeat(16_384)}`))
  const lines = await collect(timedLines(cut(Buffer.concat(sent), 4096)))
  expect(Math.max(...lines.map(({ text }) => text.length))).toBeLessThanOrEqual(64 * 1024)
  expect(lines.map(({ text }) => text).join('')).toHaveLength(20 * 16_384)
})
