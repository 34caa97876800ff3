import { describe, expect, it } from 'vitest'
import type { LogOptions } from '../../../orchestrator/engines/engine.ts'
import { LineSplitter, LogBuffer } from '../../../orchestrator/engines/log-buffer.ts'

const signal = new AbortController().signal

async function read(buffer: LogBuffer, options: Omit<LogOptions, 'signal'> = {}): Promise<string[]> {
  const texts: string[] = []
  for await (const line of buffer.read({ signal, ...options })) texts.push(line.text)
  return texts
}

describe('the log buffer', () => {
  const filled = (count: number, maximum?: number): LogBuffer => {
    const buffer = new LogBuffer(maximum)
    for (let line = 1; line <= count; line += 1) buffer.append({ stream: 'stdout', text: `line ${line}`, timeMs: line })
    return buffer
  }

  it('gives all lines, the newest, or those after a position', async () => {
    const buffer = filled(4)
    expect(await read(buffer)).toEqual(['line 1', 'line 2', 'line 3', 'line 4'])
    expect(await read(buffer, { tail: 2 })).toEqual(['line 3', 'line 4'])
    expect(await read(buffer, { tail: 0 })).toEqual([])
    expect(await read(buffer, { tail: 9 })).toHaveLength(4)
    const positions: string[] = []
    for await (const { position = '' } of buffer.read({ signal })) positions.push(position)
    expect(await read(buffer, { after: positions[2] ?? '' })).toEqual(['line 4'])
    expect(await read(buffer, { after: positions[3] ?? '' })).toEqual([])
  })

  it('holds the newest lines within its size', async () => {
    const texts = await read(filled(1_000, 700))
    expect(texts.at(-1)).toBe('line 1000')
    expect(texts.join('').length).toBeLessThanOrEqual(700)
    expect(texts.length).toBeGreaterThan(40)
  })

  it('follows until its end, and a reader that was overtaken goes on with what is held', async () => {
    const buffer = new LogBuffer(100)
    const following = read(buffer, { follow: true })
    for (let line = 0; line < 100; line += 1) buffer.append({ stream: 'stderr', text: `line ${line}` })
    buffer.end()
    const texts = await following
    expect(texts.at(-1)).toBe('line 99')
    expect(texts.length).toBeLessThan(100)
  })
})

describe('the line splitter', () => {
  const split = (...parts: Buffer[]): string[] => {
    const lines: string[] = []
    const splitter = new LineSplitter((line) => lines.push(line))
    for (const part of parts) splitter.push(part)
    splitter.flush()
    return lines
  }

  it('joins lines and characters that arrive in pieces', () => {
    const bytes = Buffer.from('eins\r\nzwölf\n\nrest')
    for (let cut = 1; cut < bytes.length; cut += 1) {
      expect(split(bytes.subarray(0, cut), bytes.subarray(cut))).toEqual(['eins', 'zwölf', '', 'rest'])
    }
  })

  it('cuts long lines in pieces, whether they end or not', () => {
    const long = Buffer.alloc(150_000, 'x')
    const lengths = [65_536, 65_536, 18_928]
    expect(split(long).map((line) => line.length)).toEqual(lengths)
    expect(split(Buffer.concat([long, Buffer.from('\n')])).map((line) => line.length)).toEqual(lengths)
  })
})
